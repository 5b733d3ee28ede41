# hearth_shaders(OUT): compiles every row of shaders/kernels.def twice, with storage-buffer loads
# (-DTEXEL=0) and with texel loads (-DTEXEL=1), and sets OUT to an assembler file that holds all of it
# between the labels spirv_<kernel>_<0|1> and spirv_<kernel>_<0|1>_end. SPIRV_FILES (in the caller's
# scope) lists the modules.
find_program(GLSLANG glslangValidator REQUIRED)

function(hearth_shaders out)
  set(dir ${CMAKE_SOURCE_DIR}/shaders)
  set(spv_dir ${CMAKE_CURRENT_BINARY_DIR}/spirv)
  file(MAKE_DIRECTORY ${spv_dir})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${dir}/kernels.def)
  file(STRINGS ${dir}/kernels.def rows REGEX "^KERNEL\\(")
  set(files "")
  set(text "    .section .rodata\n")
  foreach(row IN LISTS rows)
    if(NOT row MATCHES "^KERNEL\\(([a-z0-9_]+), \"([a-z0-9_]+\\.comp)\", (push_[a-z0-9_]+), \"([qrw]*)\", \"([^\"]*)\"\\)$")
      message(FATAL_ERROR "shaders/kernels.def: not a row: ${row}")
    endif()
    set(name ${CMAKE_MATCH_1})
    set(source ${dir}/${CMAKE_MATCH_2})
    separate_arguments(defines UNIX_COMMAND "${CMAKE_MATCH_5}")
    foreach(texel 0 1)
      set(spv ${spv_dir}/${name}_${texel}.spv)
      string(APPEND text "    .global spirv_${name}_${texel}, spirv_${name}_${texel}_end\n    .balign 16\nspirv_${name}_${texel}:\n")
      string(APPEND text "    .incbin \"${spv}\"\nspirv_${name}_${texel}_end:\n")
      add_custom_command(OUTPUT ${spv}
        COMMAND ${GLSLANG} --quiet -V --target-env vulkan1.2 -I${dir} -DTEXEL=${texel} ${defines}
                --depfile ${spv}.d -o ${spv} ${source}
        DEPENDS ${source} DEPFILE ${spv}.d COMMENT "SPIR-V ${name} (texel ${texel})" VERBATIM)
      list(APPEND files ${spv})
    endforeach()
  endforeach()
  string(APPEND text "    .section .note.GNU-stack,\"\",%progbits\n")
  set(asm ${CMAKE_CURRENT_BINARY_DIR}/spirv.S)
  file(CONFIGURE OUTPUT ${asm} CONTENT "${text}" @ONLY)
  set_source_files_properties(${asm} PROPERTIES OBJECT_DEPENDS "${files}" LANGUAGE ASM)
  set(${out} ${asm} PARENT_SCOPE)
  set(SPIRV_FILES ${files} PARENT_SCOPE)
endfunction()

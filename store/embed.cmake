# cmake -DFROM=schema.sql -DTO=schema_sql.h -DNAME=schema_sql -P embed.cmake: a file as a C array.
file(READ "${FROM}" hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
file(WRITE "${TO}" "static const char ${NAME}[] = {\n${hex}0x00};\n")

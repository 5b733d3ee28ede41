#include "tests/unit/spirv_shared.h"

#include <stdbool.h>
#include <stdlib.h>

enum { HEADER = 5, STORAGE_WORKGROUP = 4, SPEC_ID = 1 };
enum {
    OP_TYPE_BOOL = 20,
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_ARRAY = 28,
    OP_TYPE_STRUCT = 30,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT_TRUE = 41,
    OP_CONSTANT_FALSE = 42,
    OP_CONSTANT = 43,
    OP_SPEC_CONSTANT = 50,
    OP_SPEC_CONSTANT_OP = 52,
    OP_VARIABLE = 59,
    OP_DECORATE = 71,
};

struct word { /* of one id: a constant's value, or a type's bytes; for a pointer, its target's */
    uint64_t value, size;
    uint32_t spec; /* SpecId + 1 */
};

static uint64_t times(uint64_t a, uint64_t b)
{
    return a && b > UINT64_MAX / a ? UINT64_MAX : a * b;
}

/* OpSpecConstantOp on 32-bit unsigned values. */
static uint64_t operate(uint32_t op, uint64_t a, uint64_t b, uint64_t c)
{
    switch (op) {
    case 128: return (uint32_t)(a + b);
    case 130: return (uint32_t)(a - b);
    case 132: return (uint32_t)(a * b);
    case 134: return b ? a / b : 0;
    case 137: return b ? a % b : 0;
    case 166: return a || b;
    case 167: return a && b;
    case 168: return !a;
    case 169: return a ? b : c;
    case 170: return a == b;
    case 171: return a != b;
    case 172: return a > b;
    case 174: return a >= b;
    case 176: return a < b;
    case 178: return a <= b;
    case 194: return a >> (b & 31);
    case 196: return (uint32_t)(a << (b & 31));
    case 197: return a | b;
    case 199: return a & b;
    default: return UINT64_MAX;
    }
}

static void constant_op(struct word *id, const uint32_t *w, uint32_t n)
{
    uint64_t v[3] = { 0 };
    for (uint32_t i = 0; i < 3 && 4 + i < n; i++)
        v[i] = id[w[4 + i]].value;
    bool known = n <= 7;
    for (int i = 0; i < 3; i++)
        known = known && v[i] != UINT64_MAX;
    id[w[2]].value = known ? operate(w[3], v[0], v[1], v[2]) : UINT64_MAX;
}

static void type(struct word *id, const uint32_t *w, uint32_t n)
{
    uint64_t size = 0;
    switch (w[0] & 0xFFFF) {
    case OP_TYPE_BOOL: size = 4; break;
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT: size = w[2] / 8; break;
    case OP_TYPE_VECTOR: size = times(id[w[2]].size, w[3]); break;
    case OP_TYPE_ARRAY: size = times(id[w[2]].size, id[w[3]].value); break;
    case OP_TYPE_STRUCT:
        for (uint32_t i = 2; i < n; i++)
            size += id[w[i]].size;
        break;
    case OP_TYPE_POINTER: id[w[1]].size = id[w[3]].size; return;
    default: return;
    }
    id[w[1]].size = size;
}

static void constant(struct word *id, const uint32_t *w, const uint32_t *spec, uint32_t n_spec)
{
    uint32_t op = w[0] & 0xFFFF, to = w[2], s = id[to].spec;
    if (s && s - 1 < n_spec)
        id[to].value = spec[s - 1];
    else
        id[to].value = op == OP_CONSTANT || op == OP_SPEC_CONSTANT ? w[3] : op == OP_CONSTANT_TRUE;
}

static uint64_t instruction(struct word *id, const uint32_t *w, const uint32_t *spec, uint32_t n_spec)
{
    uint32_t op = w[0] & 0xFFFF, n = w[0] >> 16;
    if (op == OP_DECORATE && w[2] == SPEC_ID)
        id[w[1]].spec = w[3] + 1;
    else if (op >= OP_TYPE_BOOL && op <= OP_TYPE_POINTER)
        type(id, w, n);
    else if (op == OP_CONSTANT_TRUE || op == OP_CONSTANT_FALSE || op == OP_CONSTANT || op == OP_SPEC_CONSTANT)
        constant(id, w, spec, n_spec);
    else if (op == OP_SPEC_CONSTANT_OP)
        constant_op(id, w, n);
    else if (op == OP_VARIABLE && w[3] == STORAGE_WORKGROUP)
        return id[w[1]].size;
    return 0;
}

uint64_t spirv_shared_bytes(const uint32_t *code, size_t bytes, const uint32_t *spec, uint32_t n)
{
    struct word *id = calloc(code[3], sizeof *id);
    uint64_t sum = 0;
    if (!id)
        return UINT64_MAX;
    for (size_t at = HEADER; at < bytes / 4; at += code[at] >> 16) {
        uint64_t more = instruction(id, code + at, spec, n);
        sum = more > UINT64_MAX - sum ? UINT64_MAX : sum + more;
    }
    free(id);
    return sum;
}

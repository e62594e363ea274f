/* Arithmetic of the field of P-256 on 32-bit words, for `p256` (patches/p256-0.13.2.patch): that crate computes with words of 64 bits, which
   this chip does not have, and takes three times as long. Nearly all of a handshake is spent here.

   Elements are 8 words, least first, below p = 2^256 - 2^224 + 2^192 + 2^96 - 1, in Montgomery's form with R = 2^256.
   Carries are branches, as they are in what the compiler makes: how long an operation takes depends a little on its numbers. The secrets
   that come here are the ephemeral keys of handshakes, each used once.

   Out may be the same as an operand in the sums; not in the product. a0 is the return address, a2 to a4 are the arguments. */

    .set FRAME, 64              /* factors of the reduction: 32 bytes; saved registers: 16 */
    .set SAVED, 32

/* Weights in a column, in bits: LO 0, MID 16, HI and LO's carries 32, MID's carries 48, HI's carries 64. */
#define LO a5
#define LO_CARRIES a6
#define HI a7
#define HI_CARRIES a13
#define MID a14
#define MID_CARRIES a15

/* LO += value, which is kept. */
    .macro into_lo value
    add    LO, LO, \value
    bgeu   LO, \value, 1f
    addi   LO_CARRIES, LO_CARRIES, 1
1:
    .endm

/* Adds a[i] * b[j] to the column: four products of 16 bits. */
    .macro product i, j
    l32i   a8, a3, 4 * (\i)
    l32i   a9, a4, 4 * (\j)
    mul16u a12, a8, a9
    extui  a10, a8, 16, 16
    extui  a11, a9, 16, 16
    into_lo a12
    mul16u a12, a10, a11
    mul16u a11, a8, a11
    add    HI, HI, a12
    bgeu   HI, a12, 1f
    addi   HI_CARRIES, HI_CARRIES, 1
1:  mul16u a10, a10, a9
    add    MID, MID, a11
    bgeu   MID, a11, 1f
    addi   MID_CARRIES, MID_CARRIES, 1
1:  add    MID, MID, a10
    bgeu   MID, a10, 1f
    addi   MID_CARRIES, MID_CARRIES, 1
1:
    .endm

/* All of column k of the product; what belongs to higher columns is left in HI and its carries. */
    .macro column k
    movi   HI, 0
    movi   HI_CARRIES, 0
    movi   MID, 0
    movi   MID_CARRIES, 0
    .set   i, 0
    .rept  8
    .if (\k - i >= 0) && (\k - i < 8)
    product i, (\k - i)
    .endif
    .set   i, i + 1
    .endr
    slli   a8, MID, 16
    extui  a9, MID, 16, 16
    slli   a10, MID_CARRIES, 16
    into_lo a8
    add    a9, a9, a10
    add    HI, HI, a9
    bgeu   HI, a9, 1f
    addi   HI_CARRIES, HI_CARRIES, 1
1:
    .endm

/* Adds factor j of the reduction to the column. */
    .macro factor j
    l32i   a8, a1, 4 * (\j)
    into_lo a8
    .endm

/* Adds factor j to the next column and takes it off this one: together that is never negative. */
    .macro factor_above_and_off j
    l32i   a8, a1, 4 * (\j)
    mov    a9, a8
    bgeu   LO, a8, 1f
    addi   a9, a9, -1
1:  sub    LO, LO, a8
    add    HI, HI, a9
    bgeu   HI, a9, 1f
    addi   HI_CARRIES, HI_CARRIES, 1
1:
    .endm

/* What is to be added to column k because of the factors before it. */
    .macro factors k
    .if (\k >= 3) && (\k <= 10)
    factor (\k - 3)
    .endif
    .if (\k >= 6) && (\k <= 13)
    factor (\k - 6)
    .endif
    .if (\k >= 7) && (\k <= 14)
    factor_above_and_off (\k - 7)
    .endif
    .endm

/* On to the next column. */
    .macro next_column
    add    LO, HI, LO_CARRIES
    bgeu   LO, HI, 1f
    addi   HI_CARRIES, HI_CARRIES, 1
1:  mov    LO_CARRIES, HI_CARRIES
    .endm

/* to = one + other + carry_in; the carry goes to carry_out. */
    .macro add_words to, one, other, carry_in, carry_out
    add    \other, \other, \carry_in
    movi   \carry_out, 0
    bgeu   \other, \carry_in, 1f
    movi   \carry_out, 1
1:  add    \to, \one, \other
    bgeu   \to, \other, 1f
    movi   \carry_out, 1
1:
    .endm

/* The words at a2, with a5 above them, become what they are modulo p; they are below 2p. Uses the frame's words.
   That is: add 2^256 - p = (1, 0, 0, -1, -1, -1, -2, 0), and take the sum if it has a 257th bit. */
    .macro reduce_once
    movi   a6, 1                /* carry; into the lowest word it is the 1 that is added there */
    .set   i, 0
    .rept  8
    l32i   a9, a2, 4 * i
    .if (i >= 3) && (i <= 5)
    movi   a10, -1
    add_words a9, a9, a10, a6, a7
    mov    a6, a7
    .elseif i == 6
    movi   a10, -2
    add_words a9, a9, a10, a6, a7
    mov    a6, a7
    .else
    add    a9, a9, a6
    movi   a7, 1
    bltu   a9, a6, 1f
    movi   a7, 0
1:  mov    a6, a7
    .endif
    s32i   a9, a1, 4 * i
    .set   i, i + 1
    .endr
    or     a5, a5, a6
    neg    a5, a5               /* all ones if the sum is to be taken */
    .set   i, 0
    .rept  8
    l32i   a8, a2, 4 * i
    l32i   a9, a1, 4 * i
    xor    a9, a9, a8
    and    a9, a9, a5
    xor    a8, a8, a9
    s32i   a8, a2, 4 * i
    .set   i, i + 1
    .endr
    .endm

/* void p256_field_multiply(uint32_t out[8], const uint32_t a[8], const uint32_t b[8]) */
    .section .text.p256_field_multiply, "ax", @progbits
    .global p256_field_multiply
    .type p256_field_multiply, @function
    .align 4
p256_field_multiply:
    addi   a1, a1, -FRAME
    s32i   a12, a1, SAVED
    s32i   a13, a1, SAVED + 4
    s32i   a14, a1, SAVED + 8
    s32i   a15, a1, SAVED + 12
    movi   LO, 0
    movi   LO_CARRIES, 0
    .set   k, 0
    .rept  8
    column k
    factors k
    s32i   LO, a1, 4 * k        /* as a factor it makes this word 0 */
    next_column
    .set   k, k + 1
    .endr
    .rept  7
    column k
    factors k
    s32i   LO, a2, 4 * (k - 8)
    next_column
    .set   k, k + 1
    .endr
    s32i   LO, a2, 4 * 7
    mov    a5, LO_CARRIES
    reduce_once
    l32i   a12, a1, SAVED
    l32i   a13, a1, SAVED + 4
    l32i   a14, a1, SAVED + 8
    l32i   a15, a1, SAVED + 12
    addi   a1, a1, FRAME
    ret
    .size p256_field_multiply, . - p256_field_multiply

/* void p256_field_add(uint32_t out[8], const uint32_t a[8], const uint32_t b[8]) */
    .section .text.p256_field_add, "ax", @progbits
    .global p256_field_add
    .type p256_field_add, @function
    .align 4
p256_field_add:
    addi   a1, a1, -FRAME
    movi   a5, 0
    .set   i, 0
    .rept  8
    l32i   a8, a3, 4 * i
    l32i   a9, a4, 4 * i
    add_words a8, a8, a9, a5, a6
    mov    a5, a6
    s32i   a8, a2, 4 * i
    .set   i, i + 1
    .endr
    reduce_once
    addi   a1, a1, FRAME
    ret
    .size p256_field_add, . - p256_field_add

/* void p256_field_subtract(uint32_t out[8], const uint32_t a[8], const uint32_t b[8]): where that is negative, p is added. */
    .section .text.p256_field_subtract, "ax", @progbits
    .global p256_field_subtract
    .type p256_field_subtract, @function
    .align 4
p256_field_subtract:
    movi   a5, 0                /* borrow */
    .set   i, 0
    .rept  8
    l32i   a8, a3, 4 * i
    l32i   a9, a4, 4 * i
    sub    a10, a8, a9
    movi   a6, 1
    bltu   a8, a9, 1f
    movi   a6, 0
1:  bgeu   a10, a5, 1f
    movi   a6, 1
1:  sub    a10, a10, a5
    mov    a5, a6
    s32i   a10, a2, 4 * i
    .set   i, i + 1
    .endr
    neg    a5, a5               /* p, or nothing */
    extui  a7, a5, 0, 1
    movi   a6, 0                /* carry */
    .set   i, 0
    .rept  8
    l32i   a8, a2, 4 * i
    .if (i <= 2) || (i == 7)
    mov    a9, a5
    .elseif i == 6
    mov    a9, a7
    .else
    movi   a9, 0
    .endif
    add_words a8, a8, a9, a6, a10
    mov    a6, a10
    s32i   a8, a2, 4 * i
    .set   i, i + 1
    .endr
    ret
    .size p256_field_subtract, . - p256_field_subtract

    .section .note.GNU-stack, "", @progbits

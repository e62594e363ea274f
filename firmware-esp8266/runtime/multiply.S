/* 64-bit product (low half), for the compiler's `__muldi3`. Elliptic curves multiply 32 by 32 bits all the time, and the LX106 gives the
   low 32 bits of such a product only. Four products of 16 bits are a third of what the compiler's own version takes, which does not
   know that this chip has an instruction for them.

   u64 __muldi3(u64 a, u64 b): a in a2 (low), a3; b in a4 (low), a5; product in a2 (low), a3. */
    .section .text.__muldi3, "ax", @progbits
    .global __muldi3
    .type __muldi3, @function
    .align 4
__muldi3:
    mull   a6, a2, a5           /* what only reaches the high word */
    mull   a7, a3, a4
    extui  a8, a2, 16, 16
    extui  a9, a4, 16, 16
    add    a6, a6, a7
    mul16u a10, a2, a9          /* the two middle products, of which each reaches both words */
    mul16u a11, a8, a4
    mul16u a7, a2, a4
    mul16u a8, a8, a9
    add    a10, a10, a11
    add    a6, a6, a8
    bgeu   a10, a11, 1f
    movi   a9, 1                /* their sum has a 33rd bit */
    slli   a9, a9, 16
    add    a6, a6, a9
1:  extui  a9, a10, 16, 16
    slli   a10, a10, 16
    add    a2, a7, a10
    add    a3, a6, a9
    bgeu   a2, a7, 2f
    addi   a3, a3, 1
2:  ret
    .size __muldi3, . - __muldi3

    .section .note.GNU-stack, "", @progbits

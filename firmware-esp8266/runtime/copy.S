/* void *memcpy(void *to, const void *from, size_t n), instead of the compiler's: half of its time where words are copied, and field
   elements are copied all the time. */
    .section .text.memcpy, "ax", @progbits
    .global memcpy
    .type memcpy, @function
    .align 4
memcpy:
    mov    a5, a2
    or     a6, a5, a3
    extui  a6, a6, 0, 2
    bnez   a6, .Lunaligned

    srli   a6, a4, 4            /* 16 bytes at a time */
    beqz   a6, 2f
1:  l32i   a7, a3, 0
    l32i   a8, a3, 4
    l32i   a9, a3, 8
    l32i   a10, a3, 12
    s32i   a7, a5, 0
    s32i   a8, a5, 4
    s32i   a9, a5, 8
    s32i   a10, a5, 12
    addi   a3, a3, 16
    addi   a5, a5, 16
    addi   a6, a6, -1
    bnez   a6, 1b
2:  bbci   a4, 3, 3f
    l32i   a7, a3, 0
    l32i   a8, a3, 4
    s32i   a7, a5, 0
    s32i   a8, a5, 4
    addi   a3, a3, 8
    addi   a5, a5, 8
3:  bbci   a4, 2, .Ltail
    l32i   a7, a3, 0
    s32i   a7, a5, 0
    addi   a3, a3, 4
    addi   a5, a5, 4

.Ltail:                         /* what is left of a word */
    extui  a4, a4, 0, 2
.Lbytes:
    beqz   a4, 5f
4:  l8ui   a7, a3, 0
    s8i    a7, a5, 0
    addi   a3, a3, 1
    addi   a5, a5, 1
    addi   a4, a4, -1
    bnez   a4, 4b
5:  ret

.Lunaligned:
    movi   a7, 16
    bltu   a4, a7, .Lbytes
6:  extui  a6, a5, 0, 2         /* bytes until words can be written */
    beqz   a6, 7f
    l8ui   a7, a3, 0
    s8i    a7, a5, 0
    addi   a3, a3, 1
    addi   a5, a5, 1
    addi   a4, a4, -1
    j      6b
7:  extui  a6, a3, 0, 2
    srli   a10, a4, 2
    bnez   a6, 9f
8:  l32i   a7, a3, 0            /* words can be read, too */
    s32i   a7, a5, 0
    addi   a3, a3, 4
    addi   a5, a5, 4
    addi   a10, a10, -1
    bnez   a10, 8b
    j      .Ltail
9:  ssa8l  a3                   /* each word lies in two */
    sub    a8, a3, a6
    l32i   a7, a8, 0
10: addi   a8, a8, 4
    l32i   a9, a8, 0
    src    a7, a9, a7
    s32i   a7, a5, 0
    mov    a7, a9
    addi   a5, a5, 4
    addi   a10, a10, -1
    bnez   a10, 10b
    add    a3, a8, a6
    j      .Ltail
    .size memcpy, . - memcpy

    .section .note.GNU-stack, "", @progbits

/* Reset, exceptions and the instructions that Rust has no name for. LX106, CALL0 ABI: a0 return address, a1 stack, a2… arguments. */

    .section .vectors, "ax", @progbits
    .align 1024
vectors:
    .org vectors + 0x10
    j trap                      /* debug */
    .org vectors + 0x20
    j trap                      /* NMI */
    .org vectors + 0x30
    j trap                      /* kernel mode: never entered */
    .org vectors + 0x50
    j exception                 /* user mode */
    .org vectors + 0x70
    j trap                      /* double */
    .org vectors + 0x80

    .literal_position
/* The only interrupts are those that wake `wait_for_interrupt`; having woken it they are switched off. */
exception:
    wsr  a0, excsave1
    rsr  a0, exccause
    bnei a0, 4, 1f              /* 4: level-1 interrupt */
    movi a0, 0
    wsr  a0, intenable
    rsync
    rsr  a0, excsave1
    rfe
1:  rsr  a0, excsave1
trap:
    movi a1, _stack_top
    rsr  a2, exccause
    rsr  a3, epc1
    rsr  a4, excvaddr
    call0 trapped

    .section .text.start, "ax", @progbits
    .literal_position
    .global _start
    .align 4
_start:
    movi a2, vectors
    wsr  a2, vecbase
    movi a2, 0
    wsr  a2, intenable
    movi a2, 0x20               /* user mode, interrupts allowed */
    wsr  a2, ps
    rsync
    movi a1, _stack_top
    movi a2, _bss_start
    movi a3, _bss_end
    movi a4, 0
1:  bgeu a2, a3, 2f
    s32i a4, a2, 0
    addi a2, a2, 4
    j    1b
2:  movi a2, _stack_bottom      /* painted, so that what was never used can be counted */
    movi a4, 0x5aa55aa5
3:  bgeu a2, a1, 4f
    s32i a4, a2, 0
    addi a2, a2, 4
    j    3b
4:  call0 firmware
    call0 leave

    .section .text.instructions, "ax", @progbits

/* u32 cycles(void) */
    .global cycles
    .align 4
cycles:
    rsr  a2, ccount
    ret

/* void wake_at(u32 cycle) */
    .global wake_at
    .align 4
wake_at:
    wsr  a2, ccompare0
    rsync
    ret

/* void wait_for_interrupt(u32 mask): nothing is lost between the last look and the sleep, because interrupts that came in
   between are still pending when waiti lets them in. */
    .global wait_for_interrupt
    .align 4
wait_for_interrupt:
    rsil a3, 15
    wsr  a2, intenable
    rsync
    waiti 0
    movi a2, 0
    wsr  a2, intenable
    rsync
    ret

/* u32 mask_interrupts(void), void restore_interrupts(u32 ps) */
    .global mask_interrupts
    .align 4
mask_interrupts:
    rsil a2, 15
    ret
    .global restore_interrupts
    .align 4
restore_interrupts:
    wsr  a2, ps
    rsync
    ret

/* The emulator's services: i32 semihosting(u32 call, u32, u32, u32) */
    .global semihosting
    .align 4
semihosting:
    simcall
    ret

/* void leave(u32 code) */
    .global leave
    .align 4
leave:
    mov  a3, a2
    movi a2, 1
    simcall
1:  waiti 15
    j    1b

/* What a panic is, without a word: the emulator ends with 134. */
    .global abort
    .align 4
abort:
    movi a2, 134
    call0 leave

    .section .note.GNU-stack, "", @progbits

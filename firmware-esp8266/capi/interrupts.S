/* Part of liboauthing.a: masking interrupts, for which Rust has no instruction here. */
    .section .text.oauthing_interrupts, "ax", @progbits
/* u32 oauthing_mask_interrupts(void) */
    .global oauthing_mask_interrupts
    .align 4
oauthing_mask_interrupts:
    rsil a2, 15
    ret
/* void oauthing_restore_interrupts(u32 ps) */
    .global oauthing_restore_interrupts
    .align 4
oauthing_restore_interrupts:
    wsr  a2, ps
    rsync
    ret
    .section .note.GNU-stack, "", @progbits

// Everything of the test guest that runs in ring 0: the PVH entry, the way to ring 3, the trampoline of the
// other vCPUs, and the handlers of exceptions and interrupts. Kept to plain moves: a software KVM emulates
// ring 0 one instruction at a time and lacks many (int3, popcnt, xgetbv, cmpxchg16b, ...).

#include "e2e/guest/selectors.h"

// From 32-bit to 64-bit code, on the identity map of page_map.
.macro ENTER_LONG_MODE target
        movl    $page_map, %eax
        movl    %eax, %cr3
        movl    $0x20, %eax             // CR4.PAE and no more: a software KVM then runs ring 3 natively
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       // EFER.LME
        xorl    %edx, %edx
        movl    $0x100, %eax
        wrmsr
        movl    $0x80000001, %eax       // CR0.PG | CR0.PE and no more
        movl    %eax, %cr0
        ljmp    $kCode64, $\target
.endm

        .section .note.pvh, "a", @note
        .p2align 2
        .long 4, 8, 18                  // sizes of name and descriptor; XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .quad pvh_entry

        .section .boot, "ax"
        .code32
        .globl pvh_entry
// PVH (xen/arch-x86/hvm/start_info.h): flat 32-bit segments, paging off, %ebx = struct hvm_start_info.
pvh_entry:
        movl    $0x3f8, %edx
        movb    $'h', %al               // the first byte of the first line: start-up is measured to it
        outb    %al, %dx
        cli
        cld
        movl    $page_directory_pointers + 7, page_map
        movl    $page_directories + 7, page_directory_pointers
        movl    $0x000087, page_directories     // 0..4 MiB, for all of the image; ring 3 maps the rest
        movl    $0x200087, page_directories + 8
        lgdt    boot_gdtr
        ENTER_LONG_MODE long_mode

        .code64
long_mode:
        movw    $kFirstTask, %ax
        ltr     %ax
        lidt    idtr
        movl    $boot_stack_top, %esp
        movl    $user_stack_top, %edx
        movl    $guest_main, %ecx
        movl    %ebx, %edi
enter_ring_3:                           // %rcx = entry, %rdx = stack, %rdi = its argument
        pushq   $kUserData
        pushq   %rdx
        pushq   $0x3002                 // RFLAGS: interrupts off, IOPL 3 (QEMU's TCG looks at no I/O bitmap of a
                                        // TSS that is marked busy, as KVM_SET_SREGS has it)
        pushq   $kUserCode
        pushq   %rcx
        iretq

// A vCPU that got a SIPI starts here, in real mode, copied to kTrampoline.
        .code16
        .globl trampoline, trampoline_end
trampoline:
        cli
        movw    $kTrampoline >> 4, %ax
        movw    %ax, %ds
        lgdtl   ap_gdtr - trampoline
        movl    $1, %eax
        movl    %eax, %cr0
        ljmpl   $kCode32, $ap_32
        .p2align 2
ap_gdtr:
        .word   kFirstTask + 16 * kMaxCpus - 1
        .long   gdt
trampoline_end:

        .code32
ap_32:
        movw    $kData, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $1, %ebx
        lock xaddl %ebx, next_cpu       // this vCPU's index
        cmpl    $kMaxCpus, %ebx
        jae     ap_stop
        movl    %ebx, %ebp
        shll    $12, %ebp
        addl    $cpu_areas, %ebp        // its page: TSS, counters, ring-0 and ring-3 stack
        ENTER_LONG_MODE ap_64
ap_stop:
        hlt
        jmp     ap_stop

        .code64
ap_64:
        movl    %ebp, %ebp
        leaq    kRing0StackTop(%rbp), %rsp
        movl    %ebx, %eax
        shll    $4, %eax
        addl    $kFirstTask, %eax
        ltr     %ax
        lidt    idtr
        movl    %ebx, %edi
        leaq    kCpuAreaSize - 16(%rbp), %rdx
        movl    $secondary_main, %ecx
        jmp     enter_ring_3

        .section .text.ring0, "ax"
        .globl ring0_call, exception_stubs, irq_timer, irq_wake, irq_held, irq_spurious

// uint64_t ring0_call(function, a, b), from ring 3: the ud2 is the call, as syscall and int n do not reach
// ring 0 on every host. Result in %rax. Clobbers what a function call does.
ring0_call:
ring0_call_insn:
        ud2
        ret

        .p2align 4
exception_stubs:
        vector = 0
        .rept   32
        .p2align 4
        .if !((1 << vector) & 0x60227d00)       // no error code pushed by the CPU
        pushq   $0
        .endif
        pushq   $vector
        jmp     exception
        vector = vector + 1
        .endr

// Stack: vector, error code, rip, cs, rflags, rsp, ss.
exception:
        cmpq    $ring0_call_insn, 16(%rsp)
        jne     fault
        addq    $16, %rsp
        addq    $2, (%rsp)              // past the ud2
        cmpl    $kCallCount, %edi
        jae     1f
        movl    %edi, %edi
        jmp     *ring0_calls(, %rdi, 8)
1:      iretq

fault:                                  // kept for guest_fault(), which says so and stops, or for vCPU 0's loop
        movq    0(%rsp), %rax
        movq    %rax, fault_record
        movq    8(%rsp), %rax
        movq    %rax, fault_record + 8
        movq    16(%rsp), %rax
        movq    %rax, fault_record + 16
        movq    %cr2, %rax
        movq    %rax, fault_record + 24
        cmpq    $boot_stack_top, %rsp
        ja      call_halt               // another vCPU: the first one reports it
        movl    $boot_stack_top, %esp
        movl    $user_stack_top, %edx
        movl    $guest_fault, %ecx
        jmp     enter_ring_3

        .section .rodata.ring0, "a"
        .p2align 3
ring0_calls:                            // in the order of Ring0Function in ring0.h
        .quad   call_interrupts_on, call_interrupts_off, call_halt, call_halt_while
        .quad   call_cpuid, call_write_msr, call_drop_idt, call_vmrun, call_clear_gif, call_set_gif

        .section .text.ring0, "ax"
call_interrupts_on:
        orq     $0x200, 16(%rsp)
        iretq
call_interrupts_off:
        andq    $~0x200, 16(%rsp)
        iretq
call_halt:                              // for ever, with interrupts on
        sti
        hlt
        jmp     call_halt
call_halt_while:                        // one hlt if *(uint32_t*)a == b; no wake-up is lost in between
        cmpl    %edx, (%rsi)
        jne     1f
        sti
        hlt
        cli
1:      iretq
call_cpuid:                             // leaf and subleaf at a; eax, ebx, ecx, edx come back there
        pushq   %rbx
        movl    (%rsi), %eax
        movl    4(%rsi), %ecx
        cpuid
        movl    %eax, (%rsi)
        movl    %ebx, 4(%rsi)
        movl    %ecx, 8(%rsi)
        movl    %edx, 12(%rsi)
        popq    %rbx
        iretq
call_write_msr:                         // MSR a = b
        movl    %esi, %ecx
        movl    %edx, %eax
        shrq    $32, %rdx
        wrmsr
        iretq
call_drop_idt:                          // the next exception is a triple fault
        lidt    no_idtr
        iretq
call_vmrun:                             // (NestedRegisters* a): once into the nested guest and out again
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rsi
        movq    kNestedVmcb(%rsi), %rax
        clgi                            // with STI: interrupts leave the nested guest, and come after it
        movq    kNestedRcx(%rsi), %rcx
        movq    kNestedRegister(0)(%rsi), %rbx
        movq    kNestedRegister(1)(%rsi), %rdx
        movq    kNestedRegister(3)(%rsi), %rdi
        movq    kNestedRegister(4)(%rsi), %rbp
        movq    kNestedRegister(5)(%rsi), %r8
        movq    kNestedRegister(6)(%rsi), %r9
        movq    kNestedRegister(7)(%rsi), %r10
        movq    kNestedRegister(8)(%rsi), %r11
        movq    kNestedRegister(9)(%rsi), %r12
        movq    kNestedRegister(10)(%rsi), %r13
        movq    kNestedRegister(11)(%rsi), %r14
        movq    kNestedRegister(12)(%rsi), %r15
        movq    kNestedRegister(2)(%rsi), %rsi
        sti
        vmrun
        cli
        xchgq   %rsi, (%rsp)
        movq    %rcx, kNestedRcx(%rsi)
        movq    %rbx, kNestedRegister(0)(%rsi)
        movq    %rdx, kNestedRegister(1)(%rsi)
        movq    %rdi, kNestedRegister(3)(%rsi)
        movq    %rbp, kNestedRegister(4)(%rsi)
        movq    %r8, kNestedRegister(5)(%rsi)
        movq    %r9, kNestedRegister(6)(%rsi)
        movq    %r10, kNestedRegister(7)(%rsi)
        movq    %r11, kNestedRegister(8)(%rsi)
        movq    %r12, kNestedRegister(9)(%rsi)
        movq    %r13, kNestedRegister(10)(%rsi)
        movq    %r14, kNestedRegister(11)(%rsi)
        movq    %r15, kNestedRegister(12)(%rsi)
        popq    kNestedRegister(2)(%rsi)
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
call_set_gif:
        stgi
        iretq
call_clear_gif:
        clgi
        iretq

// The nested guest, in 64-bit ring 0 of its own. Before each incq of its count, register i of
// kNestedRegister went up by kNestedStep(i) and the word at %gs:0 by one: at any moment each is
// that of the count in %rax or one step further. %rcx: turns to the next exit.
        .globl  nested_guest, nested_guest_exit, nested_guest_end
nested_guest:
        leaq    kNestedStep(0)(%rbx), %rbx
        leaq    kNestedStep(1)(%rdx), %rdx
        leaq    kNestedStep(2)(%rsi), %rsi
        leaq    kNestedStep(3)(%rdi), %rdi
        leaq    kNestedStep(4)(%rbp), %rbp
        leaq    kNestedStep(5)(%r8), %r8
        leaq    kNestedStep(6)(%r9), %r9
        leaq    kNestedStep(7)(%r10), %r10
        leaq    kNestedStep(8)(%r11), %r11
        leaq    kNestedStep(9)(%r12), %r12
        leaq    kNestedStep(10)(%r13), %r13
        leaq    kNestedStep(11)(%r14), %r14
        leaq    kNestedStep(12)(%r15), %r15
        incq    %gs:0
        incq    %rax
        decq    %rcx
        jnz     nested_guest
nested_guest_exit:
        vmmcall
        jmp     nested_guest
nested_guest_end:

irq_timer:
        incq    timer_interrupts
        jmp     end_of_interrupt
irq_held:
        incq    held_interrupts
        jmp     end_of_interrupt
irq_wake:
        incq    wake_interrupts
end_of_interrupt:
        movl    $1, wake_pending
        pushq   %rax
        movl    $0xfee000b0, %eax
        movl    $0, (%rax)
        popq    %rax
irq_spurious:
        iretq

        .data
        .p2align 3
        .globl  boot_gdt
boot_gdt:
        .quad   0
        .quad   0x00af9b000000ffff      // kCode64
        .quad   0x00cf93000000ffff      // kData
        .quad   0x00cf9b000000ffff      // kCode32
        .quad   0x00cff3000000ffff      // kUserData
        .quad   0x00affb000000ffff      // kUserCode
        .word   kTaskLimit, boot_task_low       // kFirstTask: boot_task, with its I/O bitmap
        .byte   boot_task_mid, 0x89, 0, 0
        .quad   0
boot_gdt_end:
boot_gdtr:
        .word   boot_gdt_end - boot_gdt - 1
        .quad   boot_gdt
idtr:
        .word   256 * 16 - 1
        .quad   idt
no_idtr:
        .word   0
        .quad   0
        .globl  next_cpu
next_cpu:
        .long   1

// Tables and stacks: never in the file, never cleared (a new VM's memory is zero).
        .section .tables, "aw", @nobits
        .globl  page_map, page_directory_pointers, page_directories, idt, gdt, boot_task, cpu_areas
        .p2align 12
page_map:
        .skip   4096
page_directory_pointers:
        .skip   4096
page_directories:
        .skip   4096 * kMaxGigabytes
idt:    .skip   4096
        .globl  nested_vmcb, nested_host_save, nested_map
nested_vmcb:
        .skip   4096
nested_host_save:
        .skip   4096
nested_map:
        .skip   4096 * 3
gdt:    .skip   kFirstTask + 16 * kMaxCpus
        .p2align 7
boot_task:
        .skip   kTaskLimit + 1
        .p2align 4
        .globl  boot_stack_top
        .skip   2048
boot_stack_top:
        .skip   16384
user_stack_top:
        .p2align 12
cpu_areas:
        .skip   kCpuAreaSize * kMaxCpus

        .section .note.GNU-stack, "", @progbits

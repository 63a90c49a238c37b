//! The first process of a pod sandbox: holds the sandbox's namespaces open, reaps orphans when the pod shares its
//! process namespace, and ends on TERM or INT. No standard library, no allocation, no signal handlers: it blocks the
//! three signals it cares about and waits for them.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
    pub const RT_SIGTIMEDWAIT: usize = 128;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGTIMEDWAIT: usize = 137;
}

#[cfg(target_arch = "x86_64")]
global_asm!(".global _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {run}", "ud2", run = sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".global _start", "_start:", "mov x29, #0", "bl {run}", "brk #1", run = sym run);

/// One raw system call with up to four arguments.
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the calls made here (signal mask, signal wait, wait4, exit) only touch the memory whose address and
    // size are passed, which outlives the call; the clobbers are those of the kernel's calling convention.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
             options(nostack));
    }
    result
}

const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;
const SIGCHLD: u64 = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const MASK_BYTES: usize = 8;

extern "C" fn run() -> ! {
    let mask: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let mask_at = &raw const mask as usize;
    syscall(number::RT_SIGPROCMASK, SIG_BLOCK, mask_at, 0, MASK_BYTES);
    loop {
        let signal = syscall(number::RT_SIGTIMEDWAIT, mask_at, 0, 0, MASK_BYTES);
        if signal == SIGINT as isize || signal == SIGTERM as isize {
            syscall(number::EXIT_GROUP, 0, 0, 0, 0);
        }
        // One CHLD may stand for many children.
        while syscall(number::WAIT4, usize::MAX, 0, WNOHANG, 0) > 0 {}
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        syscall(number::EXIT_GROUP, 1, 0, 0, 0);
    }
}

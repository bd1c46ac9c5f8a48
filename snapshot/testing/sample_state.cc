#include "snapshot/testing/sample_state.h"

#include <algorithm>
#include <cstring>

namespace drover {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint32_t kTscKhz = 2'400'000;
constexpr uint64_t kXcr0 = 7;  // x87, SSE, AVX

std::vector<CpuidEntry> SampleCpuid() {
  return {
      {0, 0, 0, 0xD, 0x68747541, 0x444D4163, 0x69746E65},  // AuthenticAMD
      {1, 0, 0, 0x00A20F10, 0x00020800, 0xFEF83203, 0x178BFBFF},
      {7, 0, 1, 0, 0x219C05A9, 0x0040069C, 0x00000010},
      {0xD, 0, 1, 7, 0x340, 0x340, 0},
      {0xD, 1, 1, 7, 0, 0, 0},
      {0xD, 2, 1, 0x100, 0x240, 0, 0},
      {0x40000000, 0, 0, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D},
      {0x40000001, 0, 0, 0x01007EFB, 0, 0, 0},
      {0x80000001, 0, 0, 0x00A20F10, 0, 0x004003F3, 0x2FD3FBFF},
      {0x80000008, 0, 0, 0x3030, 0x111EF657, 0, 0},
  };
}

SegmentState Segment(uint16_t selector, uint8_t type) {
  return {.base = 0x1000u * type,
          .limit = 0xFFFFF000u + type,
          .selector = selector,
          .type = type,
          .dpl = 3,
          .present = 1,
          .db = 1,
          .s = 1,
          .l = 1,
          .g = 1,
          .avl = 1,
          .unusable = 1};
}

SystemRegisters SampleSregs() {
  SystemRegisters s;
  s.cs = Segment(0x33, 11);
  s.ds = Segment(0x2B, 3);
  s.es = Segment(0x2B, 2);
  s.fs = Segment(0x08, 1);
  s.gs = Segment(0x10, 4);
  s.ss = Segment(0x2B, 7);
  s.tr = Segment(0x40, 12);
  s.ldt = Segment(0x48, 5);
  s.gdt = {0xFFFFFE0000001000, 0x7F};
  s.idt = {0xFFFFFE0000000000, 0xFFF};
  s.cr0 = 0x80050033;
  s.cr2 = 0x7F1234;
  s.cr3 = 0x1A2B000;
  s.cr4 = 0x3506F0;
  s.cr8 = 2;
  s.efer = 0xD01;
  s.apic_base = 0xFEE00D00;
  s.pdptrs = {{1, 2, 3, 4}};
  return s;
}

GeneralRegisters SampleRegs(uint64_t salt) {
  return {.rax = salt + 1,
          .rbx = salt + 2,
          .rcx = salt + 3,
          .rdx = salt + 4,
          .rsi = salt + 5,
          .rdi = salt + 6,
          .rsp = salt + 7,
          .rbp = salt + 8,
          .r8 = salt + 9,
          .r9 = salt + 10,
          .r10 = salt + 11,
          .r11 = salt + 12,
          .r12 = salt + 13,
          .r13 = salt + 14,
          .r14 = salt + 15,
          .r15 = salt + 16,
          .rip = salt + 17,
          .rflags = 0x202};
}

VcpuEvents SampleEvents() {
  VcpuEvents e;
  e.flags = 0xF;
  e.exception = {1, 1, 14, 1, 7, 1, 0x7F1234};
  e.interrupt = {1, 0x31, 1, 3};
  e.nmi = {1, 1, 1};
  e.smi = {1, 1, 1, 1};
  e.sipi_vector = 0x9A;
  e.triple_fault_pending = 1;
  return e;
}

std::vector<uint8_t> SampleXsave(uint8_t salt) {
  std::vector<uint8_t> area(4096);
  for (size_t i = 0; i < 512; i += 16) area[i] = static_cast<uint8_t>(salt + i / 16);
  area[512] = kXcr0;
  return area;
}

NestedStateBuffer SampleNested() {
  NestedStateBuffer nested = NestedStateBuffer::Idle(NestedFormat::kSvm);
  nested.SetSvm({0x5000});
  return nested;
}

VcpuState SampleVcpu(uint32_t id) {
  VcpuState v;
  v.id = id;
  v.cpuid = SampleCpuid();
  v.cpuid[1].ebx |= id << 24;  // its APIC id
  v.tsc = {kTscKhz, 0xFFFFFFFF00000000 + id, uint64_t{0x123456789A} + id};
  v.sregs = SampleSregs();
  v.xcrs = {{0, kXcr0}};
  v.xsave = SampleXsave(static_cast<uint8_t>(id + 1));
  v.debug = {{1, 2, 3, 4}, 0xFFFF0FF1, 0x401};
  v.lapic.emplace();
  for (uint32_t n = 0; n < 64; ++n) SetLapicRegister(&*v.lapic, n * 16, n * 0x01010101 + id);
  v.msrs = {{0x10A, 0x8000}, {0x277, 0x0007040600070406}, {0xC0000082, 0xFFFFFFFF81000000 + id}};
  v.regs = SampleRegs(0x1000 * (id + 1));
  v.nested = SampleNested();
  v.events = SampleEvents();
  v.mp_state = id == 0 ? MpState::kRunnable : MpState::kHalted;
  return v;
}

PicState SamplePic(uint8_t base) {
  return {1, 2, 3, 4, 5, base, 1, 1, 1, 3, 1, 1, 1, 1, 0x0C, 0xF8};
}

PcIrqchipState SampleIrqchip() {
  PcIrqchipState pc;
  pc.pic_master = SamplePic(0x20);
  pc.pic_slave = SamplePic(0x28);
  pc.ioapic = {.base_address = 0xFEC00000, .selected_register = 0x10, .id = 2, .irr = 0x800000};
  for (uint32_t pin = 0; pin < IoapicState::kPins; ++pin)
    pc.ioapic.redirections[pin].bits = 0x0100000000010030 + pin;
  pc.pit.emplace();
  for (uint8_t i = 0; i < 3; ++i)
    pc.pit->channels[i] = {65536u - i, static_cast<uint16_t>(0x100 + i), 2, 1, 3, 4, 3, 2, 3, 2, 1,
                           1};
  pc.pit->flags = PitState::kSpeakerDataOn;
  return pc;
}

VmInfo SampleInfo() {
  VmInfo info;
  info.architecture = Architecture::kX86_64;
  info.vm_id = "web-1";
  info.vcpus = 2;
  info.memory_bytes = 3072 * kMiB + 64 * kMiB;  // around the gap: two regions
  info.boot_source = {"/boot/vmlinux", "/boot/initrd", "console=ttyS0 quiet"};
  info.features = {{MemoryPages::k4K, true},
                   {DirtyLogMode::kRing, true},
                   {SnapshotMode::kLive, true},
                   {MigrationMode::kPostCopy, true}};
  info.required_capabilities = {"irqfd", "read_only_memory"};
  info.boot_count = 3;
  info.taken_unix_nanos = 1'790'000'000'000'000'000;
  info.host_kernel = "6.1.0-28-amd64";
  return info;
}

MemoryShape SampleMemory() {
  MemoryShape memory;
  memory.regions = {{0, 3072 * kMiB}, {4096 * kMiB, 64 * kMiB}};
  for (uint8_t i = 0; i < 16; ++i) memory.image_id[i] = static_cast<uint8_t>(0xA0 + i);
  return memory;
}

}  // namespace

MicrovmState SampleState() {
  MicrovmState state;
  state.vm_info = SampleInfo();
  state.vcpu_states = {SampleVcpu(0), SampleVcpu(1)};
  state.device_states = {
      {"serial", "serial0", 1, {1, 2, 3}, {}},
      {"rtc", "rtc", 2, {0xFF}, {}},
      {"block", "disk-0", 1, {7}, DeviceBacking{"/images/root.img", 64 * kMiB, true}},
  };
  state.irqchip_state = SampleIrqchip();
  state.mmds_state = {2, true, "{\"instance\":\"web-1\"}"};
  state.memory = SampleMemory();
  state.clock = {123'456'789, 1'790'000'000'123'456'789, 0xABCDEF012345};
  return state;
}

HostProfile SampleHost() {
  HostProfile host;
  host.architecture = Architecture::kX86_64;
  host.capabilities.kind = BackendKind::kFake;
  host.capabilities.max_vcpus = 64;
  host.capabilities.memory_slots = 32;
  host.capabilities.guest_physical_bits = 48;
  host.capabilities.nested_state_bytes = 128 + 4096;
  host.capabilities.xsave_bytes = 4096;
  host.capabilities.irqchip = true;
  host.capabilities.irqfd = true;
  host.capabilities.read_only_memory = true;
  host.supported_cpuid = SampleCpuid();
  host.msrs = {0x10A, 0x277, 0xC0000081, 0xC0000082};
  host.tsc_khz = kTscKhz;
  host.tsc_offset = true;
  host.devices = {{"serial", {1, 1}}, {"rtc", {1, 2}}, {"block", {1, 1}}};
  host.always_present = {"serial", "rtc"};
  host.backings = {{"disk-0", {64 * kMiB, true}}};
  return host;
}

MicrovmState SmallState() {
  MicrovmState state;
  state.vm_info.architecture = Architecture::kX86_64;
  state.vm_info.vcpus = 1;
  state.vm_info.memory_bytes = 2 * kMiB;
  VcpuState vcpu;
  vcpu.cpuid = {SampleCpuid()[0]};
  vcpu.tsc.khz = kTscKhz;
  vcpu.xsave.resize(4096);
  vcpu.lapic.emplace();
  state.vcpu_states = {vcpu};
  state.irqchip_state = SplitIrqchipState();
  state.memory.regions = {{0, 2 * kMiB}};
  state.memory.image_id = {1};
  return state;
}

}  // namespace drover

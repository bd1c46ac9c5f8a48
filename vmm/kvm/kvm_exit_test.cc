#include "vmm/kvm/kvm_exit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

namespace drover {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// struct kvm_run and the page of I/O data behind it.
class KvmExit : public testing::Test {
 protected:
  struct kvm_run& run() {
    return *reinterpret_cast<struct kvm_run*>(bytes_.get());
  }
  uint8_t* data() { return bytes_.get() + 4096; }
  template <typename Exit>
  Exit Decode(uint32_t reason) {
    run().exit_reason = reason;
    const VcpuExit exit = DecodeExit(&run());
    EXPECT_TRUE(std::holds_alternative<Exit>(exit)) << exit.index();
    return std::holds_alternative<Exit>(exit) ? std::get<Exit>(exit) : Exit{};
  }

 private:
  std::unique_ptr<uint8_t[]> bytes_{new uint8_t[8192]()};
};

TEST_F(KvmExit, PortString) {
  run().io = {.direction = KVM_EXIT_IO_OUT, .size = 2, .port = 0x80, .count = 3};
  run().io.data_offset = 4096;
  data()[5] = 9;
  const PortExit exit = Decode<PortExit>(KVM_EXIT_IO);
  EXPECT_EQ(exit.port, 0x80);
  EXPECT_TRUE(exit.is_write);
  EXPECT_EQ(exit.size, 2);
  EXPECT_EQ(exit.count, 3u);
  EXPECT_THAT(exit.data, ElementsAre(0, 0, 0, 0, 0, 9));
}

TEST_F(KvmExit, MmioReadIsAnsweredInPlace) {
  run().mmio.phys_addr = 0xD0000000;
  run().mmio.len = 4;
  const MmioExit exit = Decode<MmioExit>(KVM_EXIT_MMIO);
  EXPECT_EQ(exit.address, 0xD0000000u);
  EXPECT_FALSE(exit.is_write);
  ASSERT_EQ(exit.data.size(), 4u);
  exit.data[3] = 7;
  EXPECT_EQ(run().mmio.data[3], 7);
}

TEST_F(KvmExit, SystemEvents) {
  using Kind = SystemEventExit::Kind;
  const std::pair<uint32_t, Kind> cases[] = {{KVM_SYSTEM_EVENT_SHUTDOWN, Kind::kShutdown},
                                             {KVM_SYSTEM_EVENT_RESET, Kind::kReset},
                                             {KVM_SYSTEM_EVENT_CRASH, Kind::kCrash},
                                             {99, Kind::kOther}};
  for (const auto& [type, kind] : cases) {
    run().system_event.type = type;
    EXPECT_EQ(Decode<SystemEventExit>(KVM_EXIT_SYSTEM_EVENT).kind, kind);
  }
}

TEST_F(KvmExit, EmulationFailureWithInstruction) {
  auto& failure = run().emulation_failure;
  failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
  failure.ndata = 3;
  failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
  failure.insn_size = 2;
  failure.insn_bytes[0] = 0x0F;
  failure.insn_bytes[1] = 0x0B;
  const auto exit = Decode<InternalErrorExit>(KVM_EXIT_INTERNAL_ERROR);
  EXPECT_TRUE(exit.emulation);
  EXPECT_THAT(exit.instruction, ElementsAre(0x0F, 0x0B));
  failure.insn_size = 255;
  EXPECT_EQ(Decode<InternalErrorExit>(KVM_EXIT_INTERNAL_ERROR).instruction.size(), 15u);
  failure.flags = 0;
  EXPECT_THAT(Decode<InternalErrorExit>(KVM_EXIT_INTERNAL_ERROR).instruction, IsEmpty());
  failure.ndata = 0;
  failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
  EXPECT_THAT(Decode<InternalErrorExit>(KVM_EXIT_INTERNAL_ERROR).instruction, IsEmpty());
}

TEST_F(KvmExit, OtherInternalErrors) {
  run().internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
  const auto exit = Decode<InternalErrorExit>(KVM_EXIT_INTERNAL_ERROR);
  EXPECT_EQ(exit.suberror, static_cast<uint32_t>(KVM_INTERNAL_ERROR_DELIVERY_EV));
  EXPECT_FALSE(exit.emulation);
}

TEST_F(KvmExit, Msrs) {
  run().msr.index = 0x10;
  const MsrExit read = Decode<MsrExit>(KVM_EXIT_X86_RDMSR);
  EXPECT_FALSE(read.is_write);
  EXPECT_EQ(read.index, 0x10u);
  *read.value = 77;
  *read.error = 1;
  EXPECT_EQ(run().msr.data, 77u);
  EXPECT_EQ(run().msr.error, 1);
  EXPECT_TRUE(Decode<MsrExit>(KVM_EXIT_X86_WRMSR).is_write);
}

TEST_F(KvmExit, TheRest) {
  Decode<HaltExit>(KVM_EXIT_HLT);
  Decode<ShutdownExit>(KVM_EXIT_SHUTDOWN);
  Decode<InterruptedExit>(KVM_EXIT_INTR);
  Decode<InterruptedExit>(KVM_EXIT_X86_BUS_LOCK);
  Decode<DirtyRingFullExit>(KVM_EXIT_DIRTY_RING_FULL);
  run().fail_entry.hardware_entry_failure_reason = 5;
  EXPECT_EQ(Decode<FailEntryExit>(KVM_EXIT_FAIL_ENTRY).hardware_reason, 5u);
  run().hypercall.nr = 12;
  EXPECT_EQ(Decode<HypercallExit>(KVM_EXIT_HYPERCALL).number, 12u);
  EXPECT_EQ(Decode<UnknownExit>(12345).reason, 12345u);
}

}  // namespace
}  // namespace drover

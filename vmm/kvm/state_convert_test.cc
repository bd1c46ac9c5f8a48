// KVM's structures through the model and back: every byte that is not reserved comes back.
#include "vmm/kvm/state_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace drover {
namespace {

// A structure whose bytes are all different from their neighbours'.
template <typename T>
T Filled() {
  T out;
  auto* bytes = reinterpret_cast<uint8_t*>(&out);
  for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 3);
  return out;
}

template <typename T>
bool SameBytes(const T& a, const T& b) {
  return memcmp(&a, &b, sizeof(T)) == 0;
}

void ClearPadding(struct kvm_dtable* table) { memset(table->padding, 0, sizeof(table->padding)); }

template <typename Sregs>
Sregs FilledSregs() {
  auto sregs = Filled<Sregs>();
  for (struct kvm_segment* s :
       {&sregs.cs, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss, &sregs.tr, &sregs.ldt})
    s->padding = 0;
  ClearPadding(&sregs.gdt);
  ClearPadding(&sregs.idt);
  return sregs;
}

TEST(StateConvert, Regs) {
  const auto regs = Filled<struct kvm_regs>();
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(regs)), regs));
  EXPECT_EQ(FromKvm(regs).r15, regs.r15);
  EXPECT_EQ(FromKvm(regs).rbp, regs.rbp);
}

TEST(StateConvert, Sregs) {
  auto sregs = FilledSregs<struct kvm_sregs2>();
  sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(sregs)), sregs));
  EXPECT_EQ(FromKvm(sregs).tr.dpl, sregs.tr.dpl);
  sregs.flags = 0;
  EXPECT_FALSE(FromKvm(sregs).pdptrs.has_value());
  memset(sregs.pdptrs, 0, sizeof(sregs.pdptrs));
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(sregs)), sregs));
}

TEST(StateConvert, OldSregs) {
  auto sregs = FilledSregs<struct kvm_sregs>();
  memset(sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
  EXPECT_TRUE(SameBytes(ToOldKvm(FromKvm(sregs)), sregs));
}

TEST(StateConvert, PeerVcpuEventToFrom) {
  auto events = Filled<struct kvm_vcpu_events>();
  events.nmi.pad = 0;
  memset(events.reserved, 0, sizeof(events.reserved));
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(events)), events));
  EXPECT_EQ(FromKvm(events).exception.vector, events.exception.nr);
  EXPECT_EQ(FromKvm(events).smi.inside_nmi, events.smi.smm_inside_nmi);
  EXPECT_EQ(FromKvm(events).triple_fault_pending, events.triple_fault.pending);
}

TEST(StateConvert, DebugRegisters) {
  auto debug = Filled<struct kvm_debugregs>();
  debug.flags = 0;
  memset(debug.reserved, 0, sizeof(debug.reserved));
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(debug)), debug));
}

TEST(StateConvert, Xcrs) {
  struct kvm_xcrs xcrs = {};
  xcrs.nr_xcrs = 2;
  xcrs.xcrs[0].xcr = 1, xcrs.xcrs[0].value = 5;
  xcrs.xcrs[1].xcr = 0, xcrs.xcrs[1].value = 7;
  EXPECT_THAT(FromKvm(xcrs), testing::ElementsAre(XcrValue{0, 7}, XcrValue{1, 5}));
  xcrs.nr_xcrs = 99;
  EXPECT_EQ(FromKvm(xcrs).size(), size_t{KVM_MAX_XCRS}) << "no more than there is room for";
  EXPECT_EQ(ToKvm(std::vector<XcrValue>(99)).nr_xcrs, uint32_t{KVM_MAX_XCRS});
}

TEST(StateConvert, Cpuid) {
  auto entry = Filled<struct kvm_cpuid_entry2>();
  memset(entry.padding, 0, sizeof(entry.padding));
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(entry)), entry));
}

TEST(StateConvert, PeerPicState) {
  const auto pic = Filled<struct kvm_pic_state>();
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(pic)), pic));
  const PicState model = FromKvm(pic);
  EXPECT_EQ(model.imr, pic.imr);
  EXPECT_EQ(model.irq_base, pic.irq_base);
  EXPECT_EQ(model.elcr, pic.elcr);
}

TEST(StateConvert, PeerIoapicState) {
  auto ioapic = Filled<struct kvm_ioapic_state>();
  ioapic.pad = 0;
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(ioapic)), ioapic));
  const IoapicRedirection entry = FromKvm(ioapic).redirections[23];
  EXPECT_EQ(entry.vector(), ioapic.redirtbl[23].fields.vector);
  EXPECT_EQ(entry.delivery_mode(), ioapic.redirtbl[23].fields.delivery_mode);
  EXPECT_EQ(entry.logical(), ioapic.redirtbl[23].fields.dest_mode != 0);
  EXPECT_EQ((entry.bits & IoapicRedirection::kLevel) != 0,
            ioapic.redirtbl[23].fields.trig_mode != 0);
  EXPECT_EQ(entry.destination(), ioapic.redirtbl[23].fields.dest_id);
}

TEST(StateConvert, PeerPitState) {
  auto pit = Filled<struct kvm_pit_state2>();
  memset(pit.reserved, 0, sizeof(pit.reserved));
  for (struct kvm_pit_channel_state& channel : pit.channels) channel.count_load_time = 0;
  EXPECT_TRUE(SameBytes(ToKvm(FromKvm(pit)), pit));
}

TEST(StateConvert, Routes) {
  const struct kvm_irq_routing_entry pin =
      ToKvm(IrqRoute{9, IrqchipPin{IrqchipPin::Chip::kPicSlave, 1}});
  EXPECT_EQ(pin.gsi, 9u);
  EXPECT_EQ(pin.type, uint32_t{KVM_IRQ_ROUTING_IRQCHIP});
  EXPECT_EQ(pin.u.irqchip.irqchip, uint32_t{KVM_IRQCHIP_PIC_SLAVE});
  EXPECT_EQ(pin.u.irqchip.pin, 1u);
  const struct kvm_irq_routing_entry msi = ToKvm(IrqRoute{24, MsiMessage{0x1FEE01000, 0xAB}});
  EXPECT_EQ(msi.type, uint32_t{KVM_IRQ_ROUTING_MSI});
  EXPECT_EQ(msi.u.msi.address_lo, 0xFEE01000u);
  EXPECT_EQ(msi.u.msi.address_hi, 1u);
  EXPECT_EQ(msi.u.msi.data, 0xABu);
}

}  // namespace
}  // namespace drover

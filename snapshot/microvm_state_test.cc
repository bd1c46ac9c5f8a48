#include "snapshot/microvm_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <sstream>
#include <string>

#include "proto/snapshot/v1/microvm_state.pb.h"
#include "snapshot/microvm_state_proto.h"
#include "snapshot/state_shape.h"
#include "snapshot/testing/sample_state.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

namespace pb = snapshot::v1;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

pb::MicrovmState SampleProto() {
  pb::MicrovmState proto;
  proto.ParseFromString(*SerializeMicrovmState(SampleState()));
  return proto;
}

TEST(MicrovmState, DefaultIsEqualToItself) {
  EXPECT_EQ(MicrovmState(), MicrovmState());
  EXPECT_NE(MicrovmState(), SampleState());
  EXPECT_EQ(Difference(SampleState(), SampleState()), "");
}

TEST(MicrovmState, DifferenceNamesEachPart) {
  const MicrovmState a = SampleState();
  MicrovmState b = a;
  b.vm_info.boot_count = 9;
  b.vcpu_states[1].regs.rax = 0;
  b.device_states[2].bytes = {8};
  b.irqchip_state = SplitIrqchipState();
  b.gic_state.emplace();
  b.mmds_state.reset();
  b.memory.page_bytes = 2 << 20;
  b.clock.host_tsc.reset();
  b.unknown_fields[""] = "x";
  EXPECT_EQ(Difference(a, b),
            "vm_info; vcpu_states[1]: regs; device disk-0; irqchip_state; gic_state; mmds_state; "
            "memory; clock; unknown_fields; ");
  b.vcpu_states.pop_back();
  EXPECT_THAT(Difference(a, b), HasSubstr("vcpu_states: 2 and 1; "));
}

TEST(MicrovmState, Prints) {
  std::ostringstream out;
  out << SampleState();
  EXPECT_THAT(out.str(), HasSubstr("machine web-1: x86_64, 2 vCPUs, 3136 MiB in 2 regions"));
  EXPECT_THAT(out.str(), HasSubstr("\ndevice disk-0: block version 1, 1 bytes"));
}

TEST(MicrovmState, RoundTripOfEveryField) {
  for (const MicrovmState& state : {SampleState(), SmallState()}) {
    ASSERT_OK_AND_ASSIGN(const std::string bytes, SerializeMicrovmState(state));
    ASSERT_OK_AND_ASSIGN(const MicrovmState back, ParseMicrovmState(bytes));
    EXPECT_EQ(back, state) << Difference(back, state);
    EXPECT_TRUE(back.unknown_fields.empty()) << "a field is missing in state_shape.cc";
    EXPECT_EQ(*SerializeMicrovmState(back), bytes);
  }
}

TEST(MicrovmState, RoundTripOfADiff) {
  MicrovmState state = SmallState();
  state.memory.diff = DiffMemory{{2}, {PageWords(8)}};
  state.memory.diff->pages[0] = {1, 2, 3, 4, 5, 6, 7, ~uint64_t{0}};
  ASSERT_OK_AND_ASSIGN(const std::string bytes, SerializeMicrovmState(state));
  EXPECT_THAT(ParseMicrovmState(bytes), IsOkAndHolds(state));
}

TEST(MicrovmState, RoundTripOfAGic) {
  MicrovmState state = SmallState();
  state.vm_info.architecture = Architecture::kAarch64;
  state.irqchip_state.reset();
  state.gic_state = GicState{GicKind::kV2, true, {1, 2, 3}};
  ASSERT_OK_AND_ASSIGN(const std::string bytes, SerializeMicrovmState(state));
  EXPECT_THAT(ParseMicrovmState(bytes), IsOkAndHolds(state));
}

// ---- unknown fields

// Field 30 of a message, a varint.
constexpr char kNewer[] = "\xF0\x01\x05";

TEST(MicrovmState, UnknownNewerFieldsSurvive) {
  pb::MicrovmState proto = SampleProto();
  const auto add = [](auto* message) { ASSERT_TRUE(message->MergeFromString(kNewer)); };
  pb::X86VcpuState* vcpu = proto.mutable_vcpu_states(1)->mutable_x86();
  pb::PcIrqchipState* pc = proto.mutable_irqchip_state()->mutable_pc();
  add(&proto);
  add(proto.mutable_vm_info());
  add(proto.mutable_vm_info()->mutable_boot_source());
  add(proto.mutable_vm_info()->mutable_features());
  add(proto.mutable_vcpu_states(1));
  add(vcpu);
  add(vcpu->mutable_cpuid(3));
  add(vcpu->mutable_tsc());
  add(vcpu->mutable_sregs());
  add(vcpu->mutable_sregs()->mutable_cs());
  add(vcpu->mutable_sregs()->mutable_gdt());
  add(vcpu->mutable_xcrs(0));
  add(vcpu->mutable_debug());
  add(vcpu->mutable_msrs(2));
  add(vcpu->mutable_regs());
  add(vcpu->mutable_events());
  add(vcpu->mutable_events()->mutable_nmi());
  add(proto.mutable_device_states(2));
  add(proto.mutable_device_states(2)->mutable_backing());
  add(proto.mutable_irqchip_state());
  add(pc);
  add(pc->mutable_pic_slave());
  add(pc->mutable_ioapic());
  add(pc->mutable_pit());
  add(pc->mutable_pit()->mutable_channels(1));
  add(proto.mutable_mmds_state());
  add(proto.mutable_memory());
  add(proto.mutable_memory()->mutable_regions(1));
  add(proto.mutable_clock());
  const std::string bytes = proto.SerializeAsString();
  ASSERT_OK_AND_ASSIGN(const MicrovmState state, ParseMicrovmState(bytes));
  EXPECT_EQ(state.unknown_fields.size(), 29u);
  EXPECT_EQ(state.unknown_fields.at("vcpu_states[1].x86.sregs.cs"), kNewer);
  ASSERT_OK_AND_ASSIGN(const std::string again, SerializeMicrovmState(state));
  EXPECT_EQ(again, bytes);
  EXPECT_THAT(ParseMicrovmState(again), IsOkAndHolds(state));
}

// ---- what is malformed

struct Malformation {
  const char* field;
  const char* found;
  const char* right;
  std::function<void(pb::MicrovmState*)> make;
};

pb::X86VcpuState* X86(pb::MicrovmState* state) {
  return state->mutable_vcpu_states(1)->mutable_x86();
}
pb::SegmentState* Cs(pb::MicrovmState* state) { return X86(state)->mutable_sregs()->mutable_cs(); }
pb::PcIrqchipState* Pc(pb::MicrovmState* s) { return s->mutable_irqchip_state()->mutable_pc(); }
pb::DiffMemory* Diff(pb::MicrovmState* s, size_t low_bytes) {
  pb::DiffMemory* diff = s->mutable_memory()->mutable_diff();
  diff->set_base_image_id(std::string(16, 'b'));
  diff->add_pages(std::string(low_bytes, '\0'));
  diff->add_pages(std::string(64 * kMiB / 4096 / 8, '\0'));
  return diff;
}
constexpr size_t kLowBytes = 3072 * kMiB / 4096 / 8;

const Malformation kMalformations[] = {
    {"vm_info", "missing", "present", [](auto* s) { s->clear_vm_info(); }},
    {"memory", "missing", "present", [](auto* s) { s->clear_memory(); }},
    {"clock", "missing", "present", [](auto* s) { s->clear_clock(); }},
    {"irqchip_state", "missing", "on x86_64", [](auto* s) { s->clear_irqchip_state(); }},
    {"gic_state", "present", "absent on x86_64",
     [](auto* s) {
       s->mutable_gic_state()->set_kind(pb::GIC_KIND_V3);
       s->mutable_gic_state()->set_content("x");
     }},
    {"vm_info.architecture", "0", "1 (x86_64)",
     [](auto* s) { s->mutable_vm_info()->clear_architecture(); }},
    {"vm_info.architecture", "3", "1 (x86_64)",
     [](auto* s) { s->mutable_vm_info()->set_architecture(static_cast<pb::Architecture>(3)); }},
    {"vm_info.vm_id", "of 64 bytes", "0 to 63",
     [](auto* s) { s->mutable_vm_info()->set_vm_id(std::string(64, 'v')); }},
    {"vm_info.vm_id", "a\\nb", "without control",
     [](auto* s) { s->mutable_vm_info()->set_vm_id("a\nb"); }},
    {"vm_info.vcpus", "0", "1 to 1024", [](auto* s) { s->mutable_vm_info()->set_vcpus(0); }},
    {"vm_info.vcpus", "1025", "1 to 1024", [](auto* s) { s->mutable_vm_info()->set_vcpus(1025); }},
    {"vm_info.memory_bytes", "4097", "whole pages",
     [](auto* s) { s->mutable_vm_info()->set_memory_bytes(4097); }},
    {"vm_info.memory_bytes", "0", "at least one",
     [](auto* s) { s->mutable_vm_info()->set_memory_bytes(0); }},
    {"vm_info.boot_source.command_line", "4097 bytes", "0 to 4096",
     [](auto* s) {
       s->mutable_vm_info()->mutable_boot_source()->set_command_line(std::string(4097, 'c'));
     }},
    {"vm_info.features.dirty_log", "3", "0 to 2",
     [](auto* s) { s->mutable_vm_info()->mutable_features()->set_dirty_log(3); }},
    {"vm_info.features.migration", "4294967295", "0 to 2",
     [](auto* s) { s->mutable_vm_info()->mutable_features()->set_migration(-1); }},
    {"vm_info.required_capabilities[2].name", "''", "1 to 63",
     [](auto* s) { s->mutable_vm_info()->add_required_capabilities(""); }},
    {"vm_info.host_kernel", "129 bytes", "0 to 128",
     [](auto* s) { s->mutable_vm_info()->set_host_kernel(std::string(129, 'k')); }},
    {"vcpu_states", "0", "1 to 1024", [](auto* s) { s->clear_vcpu_states(); }},
    {"vcpu_states[0].id", "1", "0, its place",
     [](auto* s) { s->mutable_vcpu_states(0)->set_id(1); }},
    {"vcpu_states[1].x86", "missing", "present",
     [](auto* s) { s->mutable_vcpu_states(1)->clear_x86(); }},
    {"vcpu_states[1].x86.cpuid", "0", "1 to 256", [](auto* s) { X86(s)->clear_cpuid(); }},
    {"vcpu_states[1].x86.cpuid[0].flags", "8", "0 to 7",
     [](auto* s) { X86(s)->mutable_cpuid(0)->set_flags(8); }},
    {"vcpu_states[1].x86.tsc", "missing", "present", [](auto* s) { X86(s)->clear_tsc(); }},
    {"vcpu_states[1].x86.tsc.khz", "0", "1 to 4294967295",
     [](auto* s) { X86(s)->mutable_tsc()->set_khz(0); }},
    {"vcpu_states[1].x86.sregs", "missing", "present", [](auto* s) { X86(s)->clear_sregs(); }},
    {"vcpu_states[1].x86.sregs.cs.selector", "65536", "0 to 65535",
     [](auto* s) { Cs(s)->set_selector(65536); }},
    {"vcpu_states[1].x86.sregs.cs.type", "16", "0 to 15", [](auto* s) { Cs(s)->set_type(16); }},
    {"vcpu_states[1].x86.sregs.cs.dpl", "4", "0 to 3", [](auto* s) { Cs(s)->set_dpl(4); }},
    {"vcpu_states[1].x86.sregs.cs.present", "2", "0 to 1", [](auto* s) { Cs(s)->set_present(2); }},
    {"vcpu_states[1].x86.sregs.cs.db", "2", "0 to 1", [](auto* s) { Cs(s)->set_db(2); }},
    {"vcpu_states[1].x86.sregs.cs.s", "2", "0 to 1", [](auto* s) { Cs(s)->set_s(2); }},
    {"vcpu_states[1].x86.sregs.cs.l", "2", "0 to 1", [](auto* s) { Cs(s)->set_l(2); }},
    {"vcpu_states[1].x86.sregs.cs.g", "2", "0 to 1", [](auto* s) { Cs(s)->set_g(2); }},
    {"vcpu_states[1].x86.sregs.cs.avl", "2", "0 to 1", [](auto* s) { Cs(s)->set_avl(2); }},
    {"vcpu_states[1].x86.sregs.cs.unusable", "2", "0 to 1",
     [](auto* s) { Cs(s)->set_unusable(2); }},
    {"vcpu_states[1].x86.sregs.idt.limit", "65536", "0 to 65535",
     [](auto* s) { X86(s)->mutable_sregs()->mutable_idt()->set_limit(65536); }},
    {"vcpu_states[1].x86.sregs.cr8", "16", "0 to 15",
     [](auto* s) { X86(s)->mutable_sregs()->set_cr8(16); }},
    {"vcpu_states[1].x86.sregs.pdptrs", "5", "4 of them",
     [](auto* s) { X86(s)->mutable_sregs()->add_pdptrs(1); }},
    {"vcpu_states[1].x86.xcrs[1].index", "index: 0;", "above 0, the one",
     [](auto* s) { X86(s)->add_xcrs()->set_value(1); }},
    {"vcpu_states[1].x86.xsave", "4095", "4096 to 1048576",
     [](auto* s) { X86(s)->set_xsave(std::string(4095, 'x')); }},
    {"vcpu_states[1].x86.xsave", "0", "4096 to", [](auto* s) { X86(s)->clear_xsave(); }},
    {"vcpu_states[1].x86.xsave", "1052672", "to 1048576",
     [](auto* s) { X86(s)->set_xsave(std::string((1 << 20) + 4096, 'x')); }},
    {"vcpu_states[1].x86.debug", "missing", "present", [](auto* s) { X86(s)->clear_debug(); }},
    {"vcpu_states[1].x86.debug.db", "5", "4 of them",
     [](auto* s) { X86(s)->mutable_debug()->add_db(1); }},
    {"vcpu_states[1].x86.lapic", "1023", "1024 bytes",
     [](auto* s) { X86(s)->set_lapic(std::string(1023, 'l')); }},
    {"vcpu_states[1].x86.msrs[1].index", "0x10a", "above 0x10a",
     [](auto* s) { X86(s)->mutable_msrs(1)->set_index(0x10A); }},
    {"vcpu_states[1].x86.regs", "missing", "present", [](auto* s) { X86(s)->clear_regs(); }},
    {"vcpu_states[1].x86.nested", "127 bytes", "128 to 8320",
     [](auto* s) { X86(s)->set_nested(std::string(127, 'n')); }},
    {"vcpu_states[1].x86.nested", "8321 bytes", "128 to 8320",
     [](auto* s) { X86(s)->set_nested(std::string(8321, 'n')); }},
    {"vcpu_states[1].x86.events", "missing", "present", [](auto* s) { X86(s)->clear_events(); }},
    {"vcpu_states[1].x86.events.exception.vector", "256", "0 to 255",
     [](auto* s) { X86(s)->mutable_events()->mutable_exception()->set_vector(256); }},
    {"vcpu_states[1].x86.events.interrupt.shadow", "256", "0 to 255",
     [](auto* s) { X86(s)->mutable_events()->mutable_interrupt()->set_shadow(256); }},
    {"vcpu_states[1].x86.events.nmi.masked", "256", "0 to 255",
     [](auto* s) { X86(s)->mutable_events()->mutable_nmi()->set_masked(256); }},
    {"vcpu_states[1].x86.events.smi.smm", "256", "0 to 255",
     [](auto* s) { X86(s)->mutable_events()->mutable_smi()->set_smm(256); }},
    {"vcpu_states[1].x86.events.triple_fault_pending", "256", "0 to 255",
     [](auto* s) { X86(s)->mutable_events()->set_triple_fault_pending(256); }},
    {"vcpu_states[1].x86.mp_state", "0", "1 (runnable) to 5",
     [](auto* s) { X86(s)->clear_mp_state(); }},
    {"vcpu_states[1].x86.mp_state", "6", "1 (runnable) to 5",
     [](auto* s) { X86(s)->set_mp_state(static_cast<pb::MpState>(6)); }},
    {"device_states[0].type", "''", "1 to 32",
     [](auto* s) { s->mutable_device_states(0)->set_type(""); }},
    {"device_states[0].type", "a b", "letters",
     [](auto* s) { s->mutable_device_states(0)->set_type("a b"); }},
    {"device_states[0].id", "64 bytes", "1 to 63",
     [](auto* s) { s->mutable_device_states(0)->set_id(std::string(64, 'i')); }},
    {"device_states[1].id", "'serial0', as another's", "each id once",
     [](auto* s) { s->mutable_device_states(1)->set_id("serial0"); }},
    {"device_states[0].version", "0", "1 to 4294967295",
     [](auto* s) { s->mutable_device_states(0)->set_version(0); }},
    {"device_states[0].content", "16777217", "at most 16777216",
     [](auto* s) { s->mutable_device_states(0)->set_content(std::string((16 << 20) + 1, 'c')); }},
    {"device_states[2].backing.path", "4097 bytes", "0 to 4096",
     [](auto* s) {
       s->mutable_device_states(2)->mutable_backing()->set_path(std::string(4097, 'p'));
     }},
    {"irqchip_state.pc", "missing", "present",
     [](auto* s) { s->mutable_irqchip_state()->Clear(); }},
    {"irqchip_state.pc.pic_slave", "missing", "present", [](auto* s) { Pc(s)->clear_pic_slave(); }},
    {"irqchip_state.pc.pic_master.imr", "256", "0 to 255",
     [](auto* s) { Pc(s)->mutable_pic_master()->set_imr(256); }},
    {"irqchip_state.pc.ioapic", "missing", "present", [](auto* s) { Pc(s)->clear_ioapic(); }},
    {"irqchip_state.pc.ioapic.redirections", "25", "24 of them",
     [](auto* s) { Pc(s)->mutable_ioapic()->add_redirections(0); }},
    {"irqchip_state.pc.pit.channels", "2", "3 of them",
     [](auto* s) { Pc(s)->mutable_pit()->mutable_channels()->RemoveLast(); }},
    {"irqchip_state.pc.pit.channels[2].count", "65537", "0 to 65536",
     [](auto* s) { Pc(s)->mutable_pit()->mutable_channels(2)->set_count(65537); }},
    {"irqchip_state.pc.pit.channels[0].latched_count", "65536", "0 to 65535",
     [](auto* s) { Pc(s)->mutable_pit()->mutable_channels(0)->set_latched_count(65536); }},
    {"mmds_state.version", "3", "1 to 2", [](auto* s) { s->mutable_mmds_state()->set_version(3); }},
    {"mmds_state.data", "1048577", "at most 1048576",
     [](auto* s) { s->mutable_mmds_state()->set_data(std::string((1 << 20) + 1, ' ')); }},
    {"memory.regions", "0", "1 to 64", [](auto* s) { s->mutable_memory()->clear_regions(); }},
    {"memory.regions[0].start", "1", "a multiple of 4096",
     [](auto* s) { s->mutable_memory()->mutable_regions(0)->set_start(1); }},
    {"memory.regions[1].start", "4096", "the end of the region before",
     [](auto* s) { s->mutable_memory()->mutable_regions(1)->set_start(4096); }},
    {"memory.regions[0].size", "0", "at least one",
     [](auto* s) { s->mutable_memory()->mutable_regions(0)->set_size(0); }},
    {"memory.regions[0].size", "100", "whole pages",
     [](auto* s) { s->mutable_memory()->mutable_regions(0)->set_size(100); }},
    {"memory.regions[1].size", "18446744073709547520", "an end below 2^64",
     [](auto* s) { s->mutable_memory()->mutable_regions(1)->set_size(UINT64_MAX - 4095); }},
    {"memory.page_bytes", "8192", "4096 or 2097152",
     [](auto* s) { s->mutable_memory()->set_page_bytes(8192); }},
    {"memory.image_id", "15 bytes", "16 bytes",
     [](auto* s) { s->mutable_memory()->set_image_id(std::string(15, 'i')); }},
    {"memory.image_id", "16 bytes of 0", "not all 0",
     [](auto* s) { s->mutable_memory()->set_image_id(std::string(16, '\0')); }},
    {"memory.diff.base_image_id", "0 bytes", "16 bytes",
     [](auto* s) { Diff(s, kLowBytes)->clear_base_image_id(); }},
    {"memory.diff.base_image_id", "a0a1", "another than image_id",
     [](auto* s) { Diff(s, kLowBytes)->set_base_image_id(s->memory().image_id()); }},
    {"memory.diff.pages", "3", "2, one a region",
     [](auto* s) { Diff(s, kLowBytes)->add_pages("x"); }},
    {"memory.diff.pages[0].bits", "8", "98304 bytes for 786432 pages", [](auto* s) { Diff(s, 8); }},
    {"memory.diff.pages[0].bits", "98303", "98304 bytes", [](auto* s) { Diff(s, kLowBytes - 1); }},
    {"memory.diff.pages[1].bits", "", "no bit behind the last page",
     [](auto* s) {
       s->mutable_memory()->mutable_regions(1)->set_size(4096);
       Diff(s, kLowBytes)->set_pages(1, std::string(8, '\xFF'));
     }},
};

TEST(MicrovmState, EveryMalformedFieldIsRefusedByName) {
  for (const Malformation& m : kMalformations) {
    pb::MicrovmState proto = SampleProto();
    m.make(&proto);
    const absl::Status status = ParseMicrovmState(proto.SerializeAsString()).status();
    EXPECT_EQ(FieldOf(status), m.field) << status;
    EXPECT_EQ(ReasonOf(status), "SNAPSHOT_STATE_MALFORMED");
    EXPECT_THAT(std::string(status.message()), HasSubstr(m.found)) << m.field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(m.right)) << m.field;
  }
}

TEST(MicrovmState, InspectionListsEveryProblem) {
  pb::MicrovmState proto = SampleProto();
  Cs(&proto)->set_type(16);
  proto.mutable_vm_info()->set_vcpus(0);
  proto.clear_clock();
  const MicrovmStateReport report = InspectMicrovmState(proto.SerializeAsString());
  std::vector<std::string> fields;
  for (const FieldProblem& problem : report.problems.list()) fields.push_back(problem.field);
  EXPECT_THAT(fields,
              testing::ElementsAre("clock", "vm_info.vcpus", "vcpu_states[1].x86.sregs.cs.type"));
  EXPECT_EQ(report.state.vm_info.vm_id, "web-1") << "what can be read is";
}

TEST(MicrovmState, WriterRefusesWhatNoReaderTakes) {
  MicrovmState state = SampleState();
  state.memory.image_id = {};
  EXPECT_EQ(FieldOf(SerializeMicrovmState(state).status()), "memory.image_id");
  state = SampleState();
  state.device_states.resize(1025, state.device_states[0]);
  EXPECT_FALSE(SerializeMicrovmState(state).ok());
  EXPECT_FALSE(SerializeMicrovmState(MicrovmState()).ok());
}

// ---- the encoding itself

std::string Field(uint32_t number, absl::string_view content) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  for (size_t n = content.size(); true; n >>= 7) {
    out += static_cast<char>((n & 0x7F) | (n > 0x7F ? 0x80 : 0));
    if (n <= 0x7F) break;
  }
  return out.append(content.data(), content.size());
}

std::string Many(uint32_t number, int count, absl::string_view content = "") {
  std::string out;
  for (int i = 0; i < count; ++i) out += Field(number, content);
  return out;
}

FieldProblem FirstOf(const std::string& bytes) {
  const StateShape shape = WalkState(bytes);
  return shape.problems.empty() ? FieldProblem() : shape.problems.list()[0];
}

TEST(StateShape, RefusesWhatAParserWouldTake) {
  using P = FieldProblem;
  EXPECT_EQ(FirstOf(Many(2, 1024)), P());
  EXPECT_EQ(FirstOf(Many(2, 1025)), (P{"vcpu_states", "more than 1024", "at most 1024"}));
  EXPECT_EQ(FirstOf(Many(3, 1025)), (P{"device_states", "more than 1024", "at most 1024"}));
  EXPECT_EQ(FirstOf(Many(1, 2)), (P{"vm_info", "there twice", "once"}));
  EXPECT_EQ(FirstOf(Field(1, Many(7, 65, "x"))),
            (P{"vm_info.required_capabilities", "more than 64", "at most 64"}));
  EXPECT_EQ(FirstOf(Field(1, Many(2, 2, "x"))), (P{"vm_info.field 2", "there twice", "once"}));
  EXPECT_EQ(FirstOf(Field(2, Field(2, Many(1, 257)))),
            (P{"vcpu_states[0].x86.cpuid", "more than 256", "at most 256"}));
  EXPECT_EQ(FirstOf(Field(2, Field(2, Many(8, 1025)))),
            (P{"vcpu_states[0].x86.msrs", "more than 1024", "at most 1024"}));
  EXPECT_EQ(FirstOf(Field(4, Field(1, "") + Field(2, ""))),
            (P{"irqchip_state", "of more than one kind", "of one kind"}));
  EXPECT_EQ(FirstOf("\x08\x01"), (P{"vm_info", "wire type 0", "wire type 2"}));
  EXPECT_EQ(FirstOf(Field(7, Field(2, "abcd"))),
            (P{"memory.field 2", "wire type 2", "wire type 0"}));
  EXPECT_EQ(FirstOf(Field(2, Field(2, Field(6, Field(1, "1234567"))))),
            (P{"vcpu_states[0].x86.debug.field 1", "7 bytes", "a multiple of 8"}));
}

TEST(StateShape, RefusesABrokenEncoding) {
  for (const std::string& bytes :
       {std::string("\x0A"), std::string("\x0A\x05xx"), std::string("\0\0", 2), std::string("\x07"),
        std::string(11, '\xFF'), std::string("\x0B"), std::string("\x0A\xFF\xFF\xFF\xFF\x0F")}) {
    EXPECT_THAT(FirstOf(bytes).found, HasSubstr("breaks off")) << bytes.size();
    EXPECT_FALSE(ParseMicrovmState(bytes).ok());
  }
}

TEST(StateShape, CutAnywhereIsRefusedOrIncomplete) {
  const std::string bytes = *SerializeMicrovmState(SampleState());
  for (size_t size = 0; size < bytes.size(); size += size < 600 ? 1 : 37)
    ASSERT_FALSE(ParseMicrovmState(bytes.substr(0, size)).ok()) << size;
}

TEST(StateShape, MillionsOfMessagesAreNotParsed) {
  const std::string bytes = Many(2, 4 << 20);
  const MicrovmStateReport report = InspectMicrovmState(bytes);
  EXPECT_TRUE(report.state.vcpu_states.empty());
  EXPECT_FALSE(report.problems.empty());
  EXPECT_FALSE(WalkState(Many(1, 1000, Many(7, 64, "x"))).bounded);
}

}  // namespace
}  // namespace drover

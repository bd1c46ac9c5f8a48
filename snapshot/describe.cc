#include "snapshot/describe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "snapshot/compatibility.h"
#include "snapshot/envelope.h"
#include "snapshot/json_writer.h"
#include "snapshot/microvm_state_proto.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"
#include "vmm/core/vcpu_state_check.h"
#include "vmm/core/vm_plan.h"

namespace drover {
namespace {

constexpr size_t kMostProblems = 64;  // in the JSON

struct Problem {
  std::string reason, field, message;
};

// What is found out about a file, before it is written down.
struct Findings {
  EnvelopeReport envelope;
  std::optional<MicrovmStateReport> state;
  std::vector<Problem> problems;
  SnapshotVerdict verdict = SnapshotVerdict::kSound;
};

SnapshotVerdict VerdictOf(absl::string_view reason) {
  if (reason == "SNAPSHOT_FOREIGN") return SnapshotVerdict::kForeign;
  if (reason == "SNAPSHOT_VERSION_UNSUPPORTED" || reason == "SNAPSHOT_FLAGS_UNSUPPORTED")
    return SnapshotVerdict::kUnsupported;
  return SnapshotVerdict::kDamaged;
}

// The first decides, but for the size alone, which says less than the magic.
SnapshotVerdict VerdictOf(const std::vector<absl::Status>& problems) {
  if (problems.empty()) return SnapshotVerdict::kSound;
  for (const absl::Status& status : problems)
    if (const SnapshotVerdict verdict = VerdictOf(ReasonOf(status));
        verdict != SnapshotVerdict::kDamaged)
      return verdict;
  return SnapshotVerdict::kDamaged;
}

void InspectState(Findings* out) {
  out->state = InspectMicrovmState(out->envelope.state);
  for (const FieldProblem& p : out->state->problems.list())
    out->problems.push_back({"SNAPSHOT_STATE_MALFORMED", p.field,
                             absl::StrCat(p.field, ": ", p.found, "; right would be: ", p.right)});
  if (!out->state->problems.empty()) {
    if (out->verdict == SnapshotVerdict::kSound) out->verdict = SnapshotVerdict::kDamaged;
    return;
  }
  for (const Mismatch& m : CheckInvariants(out->state->state)) {
    out->problems.push_back(
        {m.reason, m.field,
         absl::StrCat(m.what, ": the file has ", m.file, "; right would be: ", m.host)});
    if (out->verdict == SnapshotVerdict::kSound) out->verdict = SnapshotVerdict::kImpossible;
  }
}

Findings Inspect(absl::string_view bytes, uint64_t file_bytes) {
  Findings out;
  out.envelope = InspectEnvelope(bytes, file_bytes);
  out.verdict = VerdictOf(out.envelope.problems);
  for (const absl::Status& status : out.envelope.problems)
    out.problems.push_back({ReasonOf(status), "", std::string(status.message())});
  // Another major version means other things.
  if (out.envelope.header && out.envelope.header->major == kFormatMajor) InspectState(&out);
  return out;
}

// ---- JSON

std::string Hex(uint64_t value) { return absl::StrFormat("%#x", value); }

void WriteProblems(const std::vector<Problem>& problems, JsonWriter* json) {
  json->BeginArray("problems");
  for (size_t i = 0; i < problems.size() && i < kMostProblems; ++i) {
    json->BeginObject();
    json->Text("reason", problems[i].reason);
    if (!problems[i].field.empty()) json->Text("field", problems[i].field);
    json->Text("message", problems[i].message);
    json->End();
  }
  json->End();
}

void WriteHeader(const std::optional<EnvelopeHeader>& header, JsonWriter* json) {
  if (!header) return json->Null("header");
  json->BeginObject("header");
  json->Text("architecture", NameOf(header->architecture));
  json->Text("format_version", absl::StrCat(header->major, ".", header->minor));
  json->Text("producer", header->producer);
  json->Text("flags", Hex(header->flags));
  json->Number("state_bytes", header->state_bytes);
  json->Number("file_bytes", header->file_bytes);
  json->End();
}

void WriteCrc(const EnvelopeReport& envelope, JsonWriter* json) {
  if (!envelope.crc_stored) return json->Null("crc64");
  json->BeginObject("crc64");
  json->Text("stored", absl::StrFormat("%016x", *envelope.crc_stored));
  json->Text("computed", absl::StrFormat("%016x", *envelope.crc_computed));
  json->Bool("ok", envelope.crc_stored == envelope.crc_computed);
  json->End();
}

void WriteInfo(const VmInfo& info, JsonWriter* json) {
  json->BeginObject("vm_info");
  json->Text("architecture", NameOf(info.architecture));
  json->Text("vm_id", info.vm_id);
  json->Number("vcpus", info.vcpus);
  json->Number("memory_bytes", info.memory_bytes);
  json->Text("kernel_path", info.boot_source.kernel_path);
  json->Text("initrd_path", info.boot_source.initrd_path);
  json->Text("command_line", info.boot_source.command_line);
  json->Number("boot_count", info.boot_count);
  json->Number("taken_unix_nanos", info.taken_unix_nanos);
  json->Text("host_kernel", info.host_kernel);
  json->BeginArray("required_capabilities");
  for (const std::string& name : info.required_capabilities) json->Text("", name);
  json->End();
  json->End();
}

void WriteVcpu(const VcpuState& vcpu, JsonWriter* json) {
  json->BeginObject();
  json->Number("id", vcpu.id);
  json->Text("cpu_vendor", CpuidVendor(vcpu.cpuid));
  json->Number("tsc_khz", vcpu.tsc.khz);
  json->Number("mp_state", static_cast<uint32_t>(vcpu.mp_state));
  json->Text("rip", Hex(vcpu.regs.rip));
  json->Text("cr0", Hex(vcpu.sregs.cr0));
  json->Text("cr3", Hex(vcpu.sregs.cr3));
  json->Text("cr4", Hex(vcpu.sregs.cr4));
  json->Text("efer", Hex(vcpu.sregs.efer));
  json->Text("xcr0", Hex(vcpu.xcrs.empty() ? 0 : vcpu.xcrs[0].value));
  json->Number("cpuid_entries", vcpu.cpuid.size());
  json->Number("msrs", vcpu.msrs.size());
  json->Number("xsave_bytes", vcpu.xsave.size());
  json->Bool("lapic", vcpu.lapic.has_value());
  json->Number("nested_bytes", vcpu.nested ? vcpu.nested->content().size() : 0);
  json->End();
}

void WriteDevice(const DeviceState& device, JsonWriter* json) {
  json->BeginObject();
  json->Text("type", device.type);
  json->Text("id", device.id);
  json->Number("version", device.version);
  json->Number("state_bytes", device.bytes.size());
  if (device.backing) {
    json->BeginObject("backing");
    json->Text("path", device.backing->path);
    json->Number("size_bytes", device.backing->size_bytes);
    json->Bool("read_only", device.backing->read_only);
    json->End();
  }
  json->End();
}

void WriteMemory(const MemoryShape& memory, JsonWriter* json) {
  json->BeginObject("memory");
  json->Text("image_id", ToHex(memory.image_id));
  json->Number("page_bytes", memory.page_bytes);
  json->BeginArray("regions");
  for (const GuestRange& region : memory.regions) {
    json->BeginObject();
    json->Text("start", Hex(region.start));
    json->Number("size", region.size);
    json->End();
  }
  json->End();
  if (memory.diff) {
    uint64_t pages = 0;
    for (const PageWords& words : memory.diff->pages) pages += CountPages(words);
    json->Text("base_image_id", ToHex(memory.diff->base));
    json->Number("diff_pages", pages);
  }
  json->End();
}

void WriteClock(const ClockState& clock, JsonWriter* json) {
  json->BeginObject("clock");
  json->Number("nanos", clock.nanos);
  if (clock.realtime_nanos) json->Number("realtime_nanos", *clock.realtime_nanos);
  if (clock.host_tsc) json->Number("host_tsc", *clock.host_tsc);
  json->End();
}

void WriteControllers(const MicrovmState& state, JsonWriter* json) {
  if (state.irqchip_state) {
    const auto* pc = std::get_if<PcIrqchipState>(&*state.irqchip_state);
    json->Text("irqchip_state", pc == nullptr ? "split" : pc->pit ? "pc with pit" : "pc");
  }
  if (state.gic_state) {
    json->BeginObject("gic_state");
    json->Text("kind", state.gic_state->kind == GicKind::kV2 ? "v2" : "v3");
    json->Bool("its", state.gic_state->its);
    json->Number("state_bytes", state.gic_state->bytes.size());
    json->End();
  }
  if (state.mmds_state) json->Number("mmds_bytes", state.mmds_state->data.size());
}

void WriteUnknown(const MicrovmState& state, JsonWriter* json) {
  json->BeginArray("unknown_fields_in");
  size_t left = kMostProblems;
  for (const auto& [path, bytes] : state.unknown_fields)
    if (left-- != 0)
      json->Text("", path.empty() ? "state" : path);
    else
      break;
  json->End();
}

void WriteState(const Findings& findings, JsonWriter* json) {
  if (!findings.state) return json->Null("state");
  const MicrovmState& state = findings.state->state;
  json->BeginObject("state");
  json->Bool("trusted", findings.envelope.problems.empty());
  json->Bool("whole", findings.envelope.state_whole && findings.state->problems.empty());
  WriteInfo(state.vm_info, json);
  json->BeginArray("vcpu_states");
  for (const VcpuState& vcpu : state.vcpu_states) WriteVcpu(vcpu, json);
  json->End();
  json->BeginArray("device_states");
  for (const DeviceState& device : state.device_states) WriteDevice(device, json);
  json->End();
  WriteControllers(state, json);
  WriteMemory(state.memory, json);
  WriteClock(state.clock, json);
  WriteUnknown(state, json);
  json->End();
}

SnapshotDescription Write(absl::string_view path, std::optional<uint64_t> file_bytes,
                          const Findings& findings) {
  JsonWriter json;
  json.BeginObject();
  json.Text("path", path);
  if (file_bytes)
    json.Number("size_bytes", *file_bytes);
  else
    json.Null("size_bytes");
  json.Text("verdict", NameOf(findings.verdict));
  WriteProblems(findings.problems, &json);
  WriteHeader(findings.envelope.header, &json);
  WriteCrc(findings.envelope, &json);
  WriteState(findings, &json);
  json.End();
  return {findings.verdict, json.text()};
}

// ---- the file

struct FileStart {
  std::string bytes;
  uint64_t file_bytes = 0;
};

absl::StatusOr<std::string> ReadStart(int fd, size_t size, const std::string& path) {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = pread(fd, bytes.data() + done, size - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return PosixStatus(errno, "pread", path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

// A pipe must not make the caller wait.
absl::StatusOr<FileStart> ReadFile(const std::string& path) {
  ASSIGN_OR_RETURN(const Fd fd, OpenFile(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return PosixStatus(errno, "fstat", path);
  if (!S_ISREG(stat.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, ": no regular file"));
  const auto size = static_cast<uint64_t>(stat.st_size);
  // Of one that is too large the header tells all there is to tell.
  const size_t wanted = size > kMaxEnvelopeBytes ? kEnvelopeHeaderBytes : size;
  ASSIGN_OR_RETURN(std::string bytes, ReadStart(fd.get(), wanted, path));
  const uint64_t file_bytes = bytes.size() < wanted ? bytes.size() : size;
  return FileStart{std::move(bytes), file_bytes};
}

}  // namespace

const char* NameOf(SnapshotVerdict verdict) {
  switch (verdict) {
    case SnapshotVerdict::kSound:
      return "sound";
    case SnapshotVerdict::kUnreadable:
      return "unreadable";
    case SnapshotVerdict::kDamaged:
      return "damaged";
    case SnapshotVerdict::kForeign:
      return "foreign";
    case SnapshotVerdict::kUnsupported:
      return "unsupported";
    case SnapshotVerdict::kImpossible:
      return "impossible";
  }
  return "unknown";
}

SnapshotDescription DescribeSnapshot(absl::string_view path, absl::string_view bytes,
                                     uint64_t file_bytes) {
  return Write(path, file_bytes, Inspect(bytes, file_bytes));
}

SnapshotDescription DescribeSnapshotFile(const std::string& path) {
  const absl::StatusOr<FileStart> file = ReadFile(path);
  if (file.ok()) return DescribeSnapshot(path, file->bytes, file->file_bytes);
  Findings findings;
  findings.verdict = SnapshotVerdict::kUnreadable;
  findings.problems.push_back({"SNAPSHOT_UNREADABLE", "", std::string(file.status().message())});
  return Write(path, std::nullopt, findings);
}

}  // namespace drover

#include "vmm/boot/boot.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/boot_data.h"
#include "vmm/boot/bzimage_loader.h"
#include "vmm/boot/elf_loader.h"
#include "vmm/boot/image_file.h"
#include "vmm/boot/initrd.h"
#include "vmm/boot/kernel_image.h"
#include "vmm/boot/unknown_image.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

absl::Status CheckCommandLine(const std::string& command_line, uint64_t kernel_max) {
  const uint64_t max = std::min<uint64_t>(layout::kCommandLineMax - 1, kernel_max);
  if (command_line.size() > max)
    return BootError(kCommandLineField, "COMMAND_LINE_TOO_LONG",
                     absl::StrFormat("the command line has %u bytes, at most %u are possible: "
                                     "shorten it",
                                     command_line.size(), max));
  const size_t nul = command_line.find('\0');
  if (nul != std::string::npos)
    return BootError(kCommandLineField, "COMMAND_LINE_HAS_NUL",
                     absl::StrFormat("the command line has a NUL at byte %u: take it out", nul));
  return absl::OkStatus();
}

absl::Status CheckVcpus(uint32_t vcpus) {
  if (vcpus >= 1 && vcpus <= kMaxAcpiVcpus) return absl::OkStatus();
  return BootError("vm.spec.vcpus", vcpus == 0 ? "TOO_FEW_VCPUS" : "TOO_MANY_VCPUS",
                   absl::StrFormat("%u vCPUs: give 1 to %u", vcpus, kMaxAcpiVcpus));
}

absl::Status CheckLowMemory(const GuestMemory& memory) {
  if (LowRamEnd(memory) > layout::kHighMemory) return absl::OkStatus();
  return KernelError("KERNEL_DOES_NOT_FIT",
                     absl::StrFormat("the guest's memory from 0 ends at %#x, a kernel begins at "
                                     "%#x or above: give the VM more memory",
                                     LowRamEnd(memory), layout::kHighMemory));
}

absl::StatusOr<KernelImage> LoadKernel(int fd, GuestMemory& memory) {
  ASSIGN_OR_RETURN(const ImageFile file, ImageFile::Open(fd, ImageFile::Kind::kKernel));
  if (IsElf(file)) return LoadElf(file, memory);
  if (IsBzImage(file)) return LoadBzImage(file, memory);
  return DescribeUnknownImage(file);
}

absl::Status WriteProtocolData(const KernelImage& kernel, const BootInformation& information,
                               GuestMemory& memory, BootRegisters* registers) {
  if (kernel.protocol == BootProtocol::kPvh)
    return WritePvhStartInfo(information, memory, registers);
  RETURN_IF_ERROR(WriteIdentityPageTables(memory, registers));
  return WriteLinuxBootParams(kernel, information, memory, registers);
}

}  // namespace

absl::StatusOr<BootRegisters> LoadBootImage(const BootImageOptions& options, GuestMemory& memory) {
  RETURN_IF_ERROR(CheckVcpus(options.vcpus));
  RETURN_IF_ERROR(CheckLowMemory(memory));
  RETURN_IF_ERROR(CheckCommandLine(options.command_line, UINT64_MAX));
  ASSIGN_OR_RETURN(const KernelImage kernel, LoadKernel(options.kernel_fd, memory));
  RETURN_IF_ERROR(CheckCommandLine(options.command_line, kernel.command_line_max));
  BootInformation information;
  if (options.initrd_fd >= 0) {
    ASSIGN_OR_RETURN(information.initrd, LoadInitrd(options.initrd_fd, kernel, memory));
  }
  ASSIGN_OR_RETURN(information.rsdp_address, WriteAcpiTables(options.vcpus, memory));
  BootRegisters registers;
  registers.rip = kernel.entry;
  registers.rsp = layout::kBootStack;
  RETURN_IF_ERROR(WriteGdt(kernel.protocol, memory, &registers));
  RETURN_IF_ERROR(WriteCommandLine(options.command_line, memory));
  RETURN_IF_ERROR(WriteProtocolData(kernel, information, memory, &registers));
  return registers;
}

}  // namespace drover

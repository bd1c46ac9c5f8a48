#ifndef DROVER_VMM_WORKER_TINY_KERNEL_H_
#define DROVER_VMM_WORKER_TINY_KERNEL_H_

#include <elf.h>

#include <cstring>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {

// A file with the smallest kernel that boots by PVH: one HLT at 1 MiB, which is its entry. For
// tests.
inline Fd TinyKernel() {
  struct {
    Elf64_Ehdr file = {};
    Elf64_Phdr load = {};
    Elf64_Phdr note = {};
    Elf64_Nhdr header = {.n_namesz = 4, .n_descsz = 4, .n_type = 18};  // XEN_ELFNOTE_PHYS32_ENTRY
    char name[4] = {'X', 'e', 'n', 0};
    uint32_t entry = 0x100000;
    uint8_t code[16] = {0xf4};
  } image;
  memcpy(image.file.e_ident, ELFMAG, SELFMAG);
  image.file.e_ident[EI_CLASS] = ELFCLASS64;
  image.file.e_ident[EI_DATA] = ELFDATA2LSB;
  image.file.e_ident[EI_VERSION] = EV_CURRENT;
  image.file.e_type = ET_EXEC;
  image.file.e_machine = EM_X86_64;
  image.file.e_version = EV_CURRENT;
  image.file.e_entry = image.entry;
  image.file.e_phoff = sizeof(Elf64_Ehdr);
  image.file.e_ehsize = sizeof(Elf64_Ehdr);
  image.file.e_phentsize = sizeof(Elf64_Phdr);
  image.file.e_phnum = 2;
  const auto offset = [&](const void* member) {
    return static_cast<uint64_t>(static_cast<const char*>(member) -
                                 reinterpret_cast<const char*>(&image));
  };
  image.load = {.p_type = PT_LOAD,
                .p_flags = PF_R | PF_X,
                .p_offset = offset(image.code),
                .p_vaddr = image.entry,
                .p_paddr = image.entry,
                .p_filesz = sizeof(image.code),
                .p_memsz = sizeof(image.code),
                .p_align = 1};
  image.note = {.p_type = PT_NOTE,
                .p_flags = PF_R,
                .p_offset = offset(&image.header),
                .p_vaddr = 0,
                .p_paddr = 0,
                .p_filesz = 20,
                .p_memsz = 20,
                .p_align = 4};
  absl::StatusOr<Fd> file = MakeMemFd("kernel", sizeof(image));
  DROVER_CHECK(file.ok());
  DROVER_CHECK(WriteAll(file->get(), {reinterpret_cast<const char*>(&image), sizeof(image)}).ok());
  return *std::move(file);
}

}  // namespace drover

#endif  // DROVER_VMM_WORKER_TINY_KERNEL_H_

// Puts a PVH ELF kernel and its start info into guest memory, for bare_kvm. The image is trusted.
#ifndef E2E_GUEST_BARE_PVH_H_
#define E2E_GUEST_BARE_PVH_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace drover {

struct PvhBoot {
  uint64_t entry;
  uint64_t start_info;
};

// Returns false, with *error set, if the file is no PVH ELF or does not fit. The memory must be
// zero.
bool LoadPvh(const std::string& path, const std::string& command_line, uint8_t* memory, size_t size,
             PvhBoot* boot, std::string* error);

// The descriptor of the XEN_ELFNOTE_PHYS32_ENTRY note of an ELF64 image, or 0 if there is none.
uint64_t FindPvhEntry(const std::string& image);

}  // namespace drover

#endif  // E2E_GUEST_BARE_PVH_H_

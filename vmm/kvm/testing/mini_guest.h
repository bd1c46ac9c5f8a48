#ifndef DROVER_VMM_KVM_TESTING_MINI_GUEST_H_
#define DROVER_VMM_KVM_TESTING_MINI_GUEST_H_

#include <cstdint>
#include <initializer_list>
#include <vector>

namespace drover {

// Machine code of a guest of a few instructions, 32-bit protected mode unless said. Plain
// instructions only: a software KVM emulates all of ring 0.
class MiniGuest {
 public:
  MiniGuest& Bytes(std::initializer_list<uint8_t> bytes) {
    code_.insert(code_.end(), bytes);
    return *this;
  }
  MiniGuest& Imm32(uint32_t value) {
    for (int i = 0; i < 4; ++i) code_.push_back(static_cast<uint8_t>(value >> (8 * i)));
    return *this;
  }

  MiniGuest& MovAl(uint8_t value) { return Bytes({0xB0, value}); }
  MiniGuest& MovEax(uint32_t value) { return Bytes({0xB8}).Imm32(value); }
  MiniGuest& MovEcx(uint32_t value) { return Bytes({0xB9}).Imm32(value); }
  MiniGuest& MovEdx(uint32_t value) { return Bytes({0xBA}).Imm32(value); }
  MiniGuest& MovEsi(uint32_t value) { return Bytes({0xBE}).Imm32(value); }
  MiniGuest& MovEdi(uint32_t value) { return Bytes({0xBF}).Imm32(value); }
  MiniGuest& IncAl() { return Bytes({0xFE, 0xC0}); }

  MiniGuest& LoadAl(uint32_t address) { return Bytes({0xA0}).Imm32(address); }
  MiniGuest& LoadEax(uint32_t address) { return Bytes({0xA1}).Imm32(address); }
  MiniGuest& StoreAl(uint32_t address) { return Bytes({0xA2}).Imm32(address); }
  MiniGuest& StoreAx(uint32_t address) { return Bytes({0x66, 0xA3}).Imm32(address); }
  MiniGuest& StoreEax(uint32_t address) { return Bytes({0xA3}).Imm32(address); }

  MiniGuest& OutAl(uint8_t port) { return Bytes({0xE6, port}); }
  MiniGuest& OutAx(uint8_t port) { return Bytes({0x66, 0xE7, port}); }
  MiniGuest& OutEax(uint8_t port) { return Bytes({0xE7, port}); }
  MiniGuest& InAl(uint8_t port) { return Bytes({0xE4, port}); }
  MiniGuest& InAx(uint8_t port) { return Bytes({0x66, 0xE5, port}); }
  MiniGuest& OutDxAl() { return Bytes({0xEE}); }
  MiniGuest& OutDxAx() { return Bytes({0x66, 0xEF}); }
  MiniGuest& InDxAl() { return Bytes({0xEC}); }
  MiniGuest& InDxAx() { return Bytes({0x66, 0xED}); }
  MiniGuest& RepInsb() { return Bytes({0xF3, 0x6C}); }
  MiniGuest& RepOutsb() { return Bytes({0xF3, 0x6E}); }

  MiniGuest& Halt() { return Bytes({0xF4}); }
  MiniGuest& Spin() { return Bytes({0xEB, 0xFE}); }
  MiniGuest& JumpBack(uint8_t bytes) {  // over this and `bytes` before it
    return Bytes({0xEB, static_cast<uint8_t>(-2 - bytes)});
  }
  MiniGuest& Undefined() { return Bytes({0x0F, 0x0B}); }

  const std::vector<uint8_t>& code() const { return code_; }

 private:
  std::vector<uint8_t> code_;
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_TESTING_MINI_GUEST_H_

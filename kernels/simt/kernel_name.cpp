#include "kernels/simt/kernel_name.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

namespace cmir::kernels::simt {
namespace {

template <class T>
std::vector<T> read_array(std::ifstream& file, std::size_t offset, std::size_t count) {
  std::vector<T> values(count);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(count * sizeof(T)));
  return values;
}

/// Mangled names of the functions of one program or library by their offset from its base. The
/// dynamic linker's own table (dladdr) lacks functions of anonymous namespaces, so the file is
/// read.
std::map<std::uintptr_t, std::string> functions_of(const char* path) {
  std::map<std::uintptr_t, std::string> functions;
  std::ifstream file(path, std::ios::binary);
  const auto header = read_array<ElfW(Ehdr)>(file, 0, 1)[0];
  if (!file || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return functions;
  const auto sections = read_array<ElfW(Shdr)>(file, header.e_shoff, header.e_shnum);
  for (const auto& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const auto& names = sections[section.sh_link];
    const auto text = read_array<char>(file, names.sh_offset, names.sh_size);
    const auto symbols =
        read_array<ElfW(Sym)>(file, section.sh_offset, section.sh_size / sizeof(ElfW(Sym)));
    if (!file) break;
    for (const auto& symbol : symbols) {
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_name >= text.size()) continue;
      functions.emplace(symbol.st_value, &text[symbol.st_name]);
    }
  }
  return functions;
}

std::string demangled(const std::string& name) {
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, nullptr), std::free);
  return text == nullptr ? name : std::string(text.get());
}

std::string look_up(const void* function) {
  Dl_info info{};
  if (dladdr(function, &info) == 0) return "kernel";
  static std::map<std::string, std::map<std::uintptr_t, std::string>> files;
  const auto [file, is_new] = files.try_emplace(info.dli_fname);
  // The program's own name may be relative to a directory that was left since.
  if (is_new) file->second = functions_of(file->first.c_str());
  if (file->second.empty()) file->second = functions_of("/proc/self/exe");
  const auto address = reinterpret_cast<std::uintptr_t>(function);
  const auto base = reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  for (const std::uintptr_t offset : {address - base, address}) {  // position independent or not
    const auto found = file->second.find(offset);
    if (found != file->second.end()) return short_name(demangled(found->second));
  }
  return "kernel";
}

}  // namespace

std::string kernel_name(const void* function) {
  static std::map<const void*, std::string> names;
  const auto [entry, is_new] = names.try_emplace(function);
  if (is_new) entry->second = look_up(function);
  return entry->second;
}

std::string_view base_name(std::string_view kernel) { return kernel.substr(0, kernel.find('<')); }

std::string short_name(std::string_view demangled) {
  constexpr std::string_view anonymous = "(anonymous namespace)";
  std::size_t begin = 0, end = demangled.size();
  int depth = 0;  // of template arguments
  for (std::size_t i = 0; i < demangled.size(); ++i) {
    if (demangled.substr(i).starts_with(anonymous)) {
      i += anonymous.size() - 1;
    } else if (demangled[i] == '<') {
      ++depth;
    } else if (demangled[i] == '>') {
      --depth;
    } else if (depth == 0 && demangled[i] == '(') {
      end = i;
      break;
    } else if (depth == 0 && (demangled[i] == ':' || demangled[i] == ' ')) {
      begin = i + 1;
    }
  }
  return std::string(demangled.substr(begin, end - begin));
}

}  // namespace cmir::kernels::simt

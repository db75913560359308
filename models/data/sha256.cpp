#include "models/data/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "core/error.h"
#include "core/formats/file.h"

namespace cmir {

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
    fail(ErrorKind::internal, "sha256", "OpenSSL cannot start a digest");
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, std::size_t bytes) {
  if (EVP_DigestUpdate(context_.get(), data, bytes) != 1)
    fail(ErrorKind::internal, "sha256", "OpenSSL cannot digest {} bytes", bytes);
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_DigestFinal_ex(context_.get(), digest.data(), &size) != 1)
    fail(ErrorKind::internal, "sha256", "OpenSSL cannot finish a digest");
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_of_file(const std::filesystem::path& file) {
  const auto mapped = MappedFile::open(file);
  Sha256 digest;
  digest.update(mapped->bytes().data(), mapped->bytes().size());
  return digest.hex();
}

}  // namespace cmir

// Opcodes that push a number, a text or None.
#include <algorithm>
#include <array>
#include <bit>

#include "models/data/import/pickle_reader.h"

namespace cmir::pickle {
namespace {

bool is_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto first = static_cast<std::uint8_t>(text[i++]);
    if (first < 0x80) continue;
    const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4) return false;
    std::uint32_t code = first & (0x3F >> more);
    for (int k = 0; k < more; ++k) {
      if (i == text.size() || (text[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (text[i++] & 0x3F);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10FFFF)) return false;
  }
  return true;
}

std::optional<std::uint32_t> hex(std::string_view digits) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value, 16);
  if (error != std::errc() || end != digits.end()) return std::nullopt;
  return value;
}

}  // namespace

void Reader::push_integer(std::int64_t value, Kind kind) {
  Value integer;
  integer.kind_ = kind;
  integer.integer_ = value;
  push(integer);
}

void Reader::push_real(double value) {
  Value real;
  real.kind_ = Kind::real;
  real.real_ = value;
  push(real);
}

void Reader::push_long(std::string_view bytes) {
  if (bytes.size() > 8) bad("an integer of {} bytes does not fit in 64 bits", bytes.size());
  std::uint64_t bits = !bytes.empty() && (bytes.back() & 0x80) ? ~std::uint64_t{0} : 0;
  std::memcpy(&bits, bytes.data(), bytes.size());
  push_integer(static_cast<std::int64_t>(bits));
}

bool Reader::number(std::uint8_t op) {
  switch (op) {
    case 'G': {  // BINFLOAT, big-endian
      std::array<char, 8> swapped;
      std::ranges::reverse_copy(take(8), swapped.begin());
      push_real(std::bit_cast<double>(swapped));
      return true;
    }
    case 'K':
      push_integer(little<std::uint8_t>());
      return true;
    case 'M':
      push_integer(little<std::uint16_t>());
      return true;
    case 'J':
      push_integer(little<std::int32_t>());
      return true;
    case 'N':
      push(Value());
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push_integer(op == 0x88, Kind::boolean);
      return true;
    case 0x8a:  // LONG1
      push_long(take(little<std::uint8_t>()));
      return true;
    case 0x8b: {  // LONG4
      const auto length = little<std::int32_t>();
      if (length < 0) bad("an integer of {} bytes", length);
      push_long(take(length));
      return true;
    }
    case 'I': {  // INT; 00 and 01 are the booleans
      const std::string_view digits = line();
      const bool boolean = digits == "00" || digits == "01";
      push_integer(parsed<std::int64_t>(digits), boolean ? Kind::boolean : Kind::integer);
      return true;
    }
    case 'L': {  // LONG
      std::string_view digits = line();
      if (digits.ends_with('L')) digits.remove_suffix(1);
      push_integer(parsed<std::int64_t>(digits));
      return true;
    }
    case 'F':
      push_real(parsed<double>(line()));
      return true;
    default:
      return false;
  }
}

void Reader::push_text(std::string_view bytes, Kind kind) {
  if (kind == Kind::string && !is_utf8(bytes)) bad("a str of {} bytes is not UTF-8", bytes.size());
  Value value;
  value.kind_ = kind;
  value.text_ = &objects_.texts.emplace_back(Text{bytes});
  push(value);
}

void Reader::push_decoded(std::string bytes, Kind kind) {
  push_text(objects_.strings.emplace_back(std::move(bytes)), kind);
}

bool Reader::text(std::uint8_t op) {
  switch (op) {
    case 0x8c:  // SHORT_BINUNICODE
      push_text(take(little<std::uint8_t>()), Kind::string);
      return true;
    case 'X':  // BINUNICODE
      push_text(take(little<std::uint32_t>()), Kind::string);
      return true;
    case 0x8d:  // BINUNICODE8
      push_text(take(little<std::uint64_t>()), Kind::string);
      return true;
    case 'C':  // SHORT_BINBYTES
    case 'U':  // SHORT_BINSTRING
      push_text(take(little<std::uint8_t>()), Kind::bytes);
      return true;
    case 'B':  // BINBYTES
      push_text(take(little<std::uint32_t>()), Kind::bytes);
      return true;
    case 'T': {  // BINSTRING
      const auto length = little<std::int32_t>();
      if (length < 0) bad("a string of {} bytes", length);
      push_text(take(length), Kind::bytes);
      return true;
    }
    case 0x8e:  // BINBYTES8
    case 0x96:  // BYTEARRAY8
      push_text(take(little<std::uint64_t>()), Kind::bytes);
      return true;
    case 0x98:  // READONLY_BUFFER
      if (top().kind() != Kind::bytes) bad("a buffer is {}", top().describe());
      return true;
    case 'S':
      push_decoded(string_literal(line()), Kind::bytes);
      return true;
    case 'V':
      push_decoded(unicode_literal(line()), Kind::string);
      return true;
    default:
      return false;
  }
}

/// STRING's argument: a Python 2 string literal.
std::string Reader::string_literal(std::string_view quoted) {
  if (quoted.size() < 2 || quoted.front() != quoted.back() ||
      (quoted.front() != '\'' && quoted.front() != '"')) {
    bad("a string literal without quotes");
  }
  const std::string_view body = quoted.substr(1, quoted.size() - 2);
  std::string bytes;
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\') {
      bytes += body[i];
      continue;
    }
    if (++i == body.size()) bad("a string literal ends in a backslash");
    constexpr std::string_view kNames = "\\'\"abfnrtv", kBytes = "\\'\"\a\b\f\n\r\t\v";
    if (body[i] == 'x') {
      const auto code = hex(body.substr(i + 1, 2));
      if (!code || i + 2 >= body.size())
        bad("\\x in a string literal needs two hexadecimal digits");
      bytes += static_cast<char>(*code);
      i += 2;
    } else if (const auto k = kNames.find(body[i]); k != kNames.npos) {
      bytes += kBytes[k];
    } else {
      bad("\\{} in a string literal is not supported", body[i]);
    }
  }
  return bytes;
}

/// UNICODE's argument: Latin-1 with \uXXXX and \UXXXXXXXX.
std::string Reader::unicode_literal(std::string_view escaped) {
  std::string text;
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    const char next = escaped[i] == '\\' && i + 1 < escaped.size() ? escaped[i + 1] : 0;
    const std::size_t digits = next == 'u' ? 4 : next == 'U' ? 8 : 0;
    if (digits == 0) {
      append_utf8(text, static_cast<std::uint8_t>(escaped[i]));
      continue;
    }
    const auto code = hex(escaped.substr(i + 2, digits));
    if (!code || i + 2 + digits > escaped.size())
      bad("\\{} needs {} hexadecimal digits", next, digits);
    append_utf8(text, *code);
    i += 1 + digits;
  }
  return text;
}

}  // namespace cmir::pickle

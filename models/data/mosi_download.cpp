#include <curl/curl.h>

#include <array>
#include <cstdio>
#include <memory>

#include "models/data/mosi.h"
#include "models/data/sha256.h"

namespace cmir {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRepository = "declare-lab/multimodal-deep-learning";
constexpr std::string_view kCommit = "111b401d867c14a1dcd930fd2b2ab58a5eca3f70";

struct SourceFile {
  const char* path;  // in the repository
  const char* name;  // in the target directory
  const char* sha256;
};

constexpr std::array<SourceFile, 10> kFiles{{
    {"LICENSE", "LICENSE.declare-lab",
     "7a4348bcc838ef3811ad96475d975869ba6104bfec46572b371fa34482defdb5"},
    {"bc-LSTM/data/transcripts.csv", "transcripts.csv",
     "e7689e6d70720addd2a6b316419d245a68839c32b014ff426c406063ee777466"},
    {"bc-LSTM/data/text_train.csv", "text_train.csv",
     "73770b6302ad0f7a51f4eddcae6788efde4d0b6802e09f78249d5b538d1c1d67"},
    {"bc-LSTM/data/text_test.csv", "text_test.csv",
     "f3b735070bf07ceff7a6ef6c8f4c32757e988de484e35bd6d38b2aecef851a59"},
    {"bc-LSTM/data/text/text_train0.csv", "text_train0.csv",
     "cc327045db6cc361a08b4037b97bb24de4ddb5efb381468c4835cc4a60674668"},
    {"bc-LSTM/data/text/text_test0.csv", "text_test0.csv",
     "a343e22272919d1384c2075dbcdd5fef5aa9f9366b0552a83f7c3147b64b047a"},
    {"bc-LSTM/data/audio/audio_train0.csv", "audio_train0.csv",
     "5435398a54664e7b00304587dc59ae84a438852be033c2a2fba779588624a2a1"},
    {"bc-LSTM/data/audio/audio_test0.csv", "audio_test0.csv",
     "ddd17eeefd3d951d51d4e2ef8a0d132652d8161e1886f71eb7262b7a14bffff6"},
    {"bc-LSTM/data/video/video_train0.csv", "video_train0.csv",
     "b6efc0413132d627efd06f67f1706830e775e90af9a75696f535c48dbc73f12f"},
    {"bc-LSTM/data/video/video_test0.csv", "video_test0.csv",
     "cab836253d81100f59d533fa2ff65cd53c486be3ec9fd82203c5e25a7a77265f"},
}};

std::string default_base_url() {
  return fmt::format("https://raw.githubusercontent.com/{}/{}", kRepository, kCommit);
}

[[noreturn]] void fail_download(const SourceFile& file, const std::string& url,
                                const fs::path& directory, std::string_view reason) {
  fail(ErrorKind::io, "mosi download",
       "{} could not be had from {}: {}. Without a network: get the repository {} at commit {} on "
       "another machine, put {} into {} as {} "
       "(and the other files likewise), and run this again: files with the right checksum are kept",
       file.name, url, reason, kRepository, kCommit, file.path, directory.string(), file.name);
}

struct Progress {
  const MosiDownloadOptions* options;
  const SourceFile* file;
  std::exception_ptr error;  // an exception must not pass through libcurl's frames
};

int report_progress(void* user, curl_off_t total, curl_off_t received, curl_off_t, curl_off_t) {
  auto& progress = *static_cast<Progress*>(user);
  try {
    if (progress.options->progress)
      progress.options->progress(progress.file->name, static_cast<std::size_t>(received),
                                 static_cast<std::size_t>(total));
    return 0;
  } catch (...) {
    progress.error = std::current_exception();
    return 1;
  }
}

std::size_t write_bytes(const char* data, std::size_t size, std::size_t count, void* file) {
  return std::fwrite(data, size, count, static_cast<std::FILE*>(file)) * size;
}

void download(const SourceFile& file, const std::string& base_url, const fs::path& directory,
              const MosiDownloadOptions& options) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(
      initialised == CURLE_OK ? curl_easy_init() : nullptr, curl_easy_cleanup);
  if (!curl) fail(ErrorKind::internal, "mosi download", "libcurl cannot start");
  const std::string url = base_url + "/" + file.path;
  const fs::path part = directory / (std::string(file.name) + ".part");
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::fopen(part.c_str(), "wb"), std::fclose);
  if (!out)
    fail(ErrorKind::io, part.string(),
         "cannot be written; choose a directory that you may write to");

  Progress progress{&options, &file, {}};
  const bool local =
      base_url.starts_with("file://");  // a web server must not be able to send us to local files
  std::array<char, CURL_ERROR_SIZE> message{};
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, local ? "file" : "https");
  curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_MAXREDIRS, 5L);
  curl_easy_setopt(curl.get(), CURLOPT_REDIR_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, options.connect_timeout_s);
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_LIMIT, 100L);  // bytes a second, over
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_TIME, 30L);    // so many seconds
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, message.data());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, write_bytes);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, out.get());
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, report_progress);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, &progress);
  const CURLcode code = curl_easy_perform(curl.get());
  const bool closed = std::fclose(out.release()) == 0;
  if (progress.error) std::rethrow_exception(progress.error);
  if (code != CURLE_OK)
    fail_download(file, url, directory,
                  message[0] != '\0' ? message.data() : curl_easy_strerror(code));
  if (!closed)
    fail(ErrorKind::io, part.string(), "cannot be written to the end: is the disk full?");

  if (const std::string found = sha256_of_file(part); found != file.sha256) {
    fail(ErrorKind::data, "mosi download",
         "{} has SHA-256 {}, expected {}: it was changed on the way or at {}; kept as {}",
         file.name, found, file.sha256, url, part.string());
  }
  fs::rename(part, directory / file.name);
}

}  // namespace

void download_mosi(const fs::path& directory, const MosiDownloadOptions& options) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail(ErrorKind::io, directory.string(), "cannot be made: {}", error.message());
  const std::string base_url = options.base_url.empty() ? default_base_url() : options.base_url;
  for (const auto& file : kFiles) {
    const fs::path target = directory / file.name;
    if (!fs::exists(target) || sha256_of_file(target) != file.sha256)
      download(file, base_url, directory, options);
  }
}

}  // namespace cmir

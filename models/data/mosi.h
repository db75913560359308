// CMU-MOSI utterance features from their public source: download and conversion.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "models/data/dataset.h"

namespace cmir {

struct MosiDownloadOptions {
  /// The files lie under <base_url>/<path in the repository>. A test, or a mirror, may use a
  /// file:// URL. Empty: the public repository declare-lab/multimodal-deep-learning at the pinned
  /// commit.
  std::string base_url;
  /// Called as bytes arrive; `total` is 0 while unknown.
  std::function<void(const std::string& file, std::size_t received, std::size_t total)> progress;
  long connect_timeout_s = 20;
};

/// Puts the ten original files (10 MB) into `directory`. A file that is there with the right
/// SHA-256 is kept, any other is downloaded to FILE.part, checked and renamed. Error of kind io
/// when a download fails (the message says how to place the files by hand), of kind data when a
/// checksum is wrong.
void download_mosi(const std::filesystem::path& directory, const MosiDownloadOptions& options = {});

/// The data set from the nine CSV files in `directory`: 2,199 segments ordered by video, then
/// segment; features text_cnn, audio_opensmile, video_3dcnn; tokens "tok" with vocabulary; label
/// "bin"; split "bclstm"; group = video. Strict: any unexpected row or column count, number, id or
/// disagreement between the files is an Error with FILE:LINE.
Dataset convert_mosi(const std::filesystem::path& directory);

}  // namespace cmir

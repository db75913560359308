#include "models/data/mosi.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "models/data/csv.h"

namespace cmir {
namespace {

constexpr std::int64_t kSegments = 2199, kTrainSegments = 1447;

/// One row of transcripts.csv.
struct Segment {
  std::string id, video, text;
  std::int64_t number = 0;  // within the video, from 1
};

/// "<video>_<number>"; the video's name may hold underscores too.
Segment parse_segment(const CsvFile& csv, const CsvRow& row) {
  const std::string& id = row.fields[0];
  const auto underscore = id.rfind('_');
  Segment segment{id, id.substr(0, underscore), row.fields[1], 0};
  if (underscore != std::string::npos)
    std::from_chars(id.data() + underscore + 1, id.data() + id.size(), segment.number);
  if (segment.number < 1 || id != fmt::format("{}_{}", segment.video, segment.number))
    fail(ErrorKind::data, csv.where(row), "\"{}\" is no segment id of the form VIDEO_NUMBER", id);
  return segment;
}

CsvFile read_csv(const std::filesystem::path& file, std::int64_t rows, std::size_t columns) {
  CsvFile csv = CsvFile::read(file);
  if (static_cast<std::int64_t>(csv.rows().size()) != rows || csv.columns() != columns) {
    fail(ErrorKind::data, file.string(),
         "has {} rows of {} fields, expected {} of {}: it is not the original file",
         csv.rows().size(), csv.columns(), rows, columns);
  }
  return csv;
}

/// Lower-cased words between spaces.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c != ' ') {
      words.back() += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

/// Vocabulary by falling frequency, then alphabetically, behind "<pad>"; and the tokens.
void add_words(Dataset& dataset) {
  std::vector<std::vector<std::string>> words;
  std::map<std::string, std::int64_t> frequency;
  std::vector<std::int64_t> offsets{0};
  for (const auto& text : dataset.texts) {
    words.push_back(words_of(text));
    offsets.push_back(offsets.back() + static_cast<std::int64_t>(words.back().size()));
    for (const auto& word : words.back()) ++frequency[word];
  }
  std::vector<std::pair<std::string, std::int64_t>> ranked(frequency.begin(), frequency.end());
  std::ranges::stable_sort(ranked, std::greater{}, [](const auto& entry) { return entry.second; });
  dataset.vocabulary = {"<pad>"};
  std::unordered_map<std::string, std::int32_t> index;
  for (const auto& [word, count] : ranked) {
    index[word] = static_cast<std::int32_t>(dataset.vocabulary.size());
    dataset.vocabulary.push_back(word);
  }
  std::vector<std::int32_t> ids;
  for (const auto& list : words) {
    for (const auto& word : list) ids.push_back(index.at(word));
  }
  const auto rows = static_cast<std::int64_t>(ids.size());
  dataset.tokens["tok"] = {Tensor::from(ids, {rows}), Tensor::from(offsets, {dataset.size() + 1})};
}

/// Sorted segments become ids, texts, groups and the segment number.
void add_segments(const std::vector<Segment>& segments, Dataset& dataset) {
  std::vector<std::int32_t> video, number;
  for (const auto& segment : segments) {
    dataset.ids.push_back(segment.id);
    dataset.texts.push_back(segment.text);
    if (dataset.group_names.empty() || dataset.group_names.back() != segment.video)
      dataset.group_names.push_back(segment.video);
    video.push_back(static_cast<std::int32_t>(dataset.group_names.size()) - 1);
    number.push_back(static_cast<std::int32_t>(segment.number));
  }
  dataset.group = Tensor::from(video, {kSegments});
  dataset.extras["segment_index"] = Tensor::from(number, {kSegments});
}

/// Row k of part `part`'s files belongs to the transcript whose number is in column 0 of
/// text_<part>.csv; returns the sample of each row.
std::vector<std::int64_t> rows_to_samples(const std::filesystem::path& directory,
                                          const std::string& part, std::int64_t rows,
                                          const std::vector<std::int64_t>& sample_of_transcript,
                                          Part value, Tensor& split) {
  const CsvFile csv = read_csv(directory / fmt::format("text_{}.csv", part), rows, 101);
  std::vector<std::int64_t> samples;
  for (const auto& row : csv.rows()) {
    const std::int64_t sample = sample_of_transcript[csv.integer(row, 0, 0, kSegments - 1)];
    auto& entry = split.mutable_span<std::int32_t>()[sample];
    if (entry != kNoPart)
      fail(ErrorKind::data, csv.where(row), "names transcript {} a second time", row.fields[0]);
    entry = value;
    samples.push_back(sample);
  }
  return samples;
}

/// Values and labels of one modality's file; the label of a sample must be that of the modalities
/// before.
void read_features(const std::filesystem::path& file, const std::vector<std::int64_t>& samples,
                   Tensor& values, Tensor& labels) {
  const std::int64_t width = values.shape().width();
  const CsvFile csv = read_csv(file, static_cast<std::int64_t>(samples.size()),
                               static_cast<std::size_t>(width) + 1);
  for (std::size_t k = 0; k < samples.size(); ++k) {
    const CsvRow& row = csv.rows()[k];
    float* out = values.mutable_span<float>().data() + samples[k] * width;
    for (std::int64_t c = 0; c < width; ++c)
      out[c] = static_cast<float>(csv.number(row, static_cast<std::size_t>(c)));
    const auto label =
        static_cast<std::int32_t>(csv.integer(row, static_cast<std::size_t>(width), 0, 1));
    auto& known = labels.mutable_span<std::int32_t>()[samples[k]];
    if (known >= 0 && known != label)
      fail(ErrorKind::data, csv.where(row), "label {} differs from that of another modality",
           label);
    known = label;
  }
}

}  // namespace

Dataset convert_mosi(const std::filesystem::path& directory) {
  const CsvFile transcripts = read_csv(directory / "transcripts.csv", kSegments, 4);
  std::vector<Segment> segments;
  for (const auto& row : transcripts.rows()) segments.push_back(parse_segment(transcripts, row));
  std::vector<std::int64_t> order(segments.size()), sample_of_transcript(segments.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  std::ranges::sort(order, {}, [&](std::int64_t i) {
    return std::pair(std::string_view(segments[i].video), segments[i].number);
  });
  std::vector<Segment> sorted;
  for (std::size_t sample = 0; sample < order.size(); ++sample) {
    sample_of_transcript[order[sample]] = static_cast<std::int64_t>(sample);
    sorted.push_back(segments[order[sample]]);
    if (sample > 0 && sorted[sample - 1].id == sorted[sample].id)
      fail(ErrorKind::data, transcripts.where(transcripts.rows()[order[sample]]),
           "segment {} occurs twice", sorted[sample].id);
  }

  Dataset dataset;
  dataset.name = "mosi";
  dataset.task =
      "Sentiment of 2,199 opinion segments of 93 videos: 1 positive or neutral, 0 negative";
  dataset.source =
      "CMU-MOSI (Zadeh et al. 2016), utterance features of Poria et al., ACL 2017, from "
      "declare-lab/multimodal-deep-learning bc-LSTM/data";
  dataset.licence =
      "MIT (features and transcripts, as their repository states); recordings belong to their "
      "authors";
  dataset.caveats = {
      "text_cnn and video_3dcnn come from networks trained on the labels of the training part: a "
      "validation part cut from it says nothing"};
  add_segments(sorted, dataset);
  add_words(dataset);

  Tensor split = Tensor::full({kSegments}, kNoPart, DType::i32),
         labels = Tensor::full({kSegments}, -1, DType::i32);
  Tensor text = Tensor::empty({kSegments, 100}), audio = Tensor::empty({kSegments, 73}),
         video = Tensor::empty({kSegments, 100});
  for (const auto& [part, value, rows] : {std::tuple{"train", kTrain, kTrainSegments},
                                          std::tuple{"test", kTest, kSegments - kTrainSegments}}) {
    const auto samples = rows_to_samples(directory, part, rows, sample_of_transcript, value, split);
    read_features(directory / fmt::format("text_{}0.csv", part), samples, text, labels);
    read_features(directory / fmt::format("audio_{}0.csv", part), samples, audio, labels);
    read_features(directory / fmt::format("video_{}0.csv", part), samples, video, labels);
  }
  dataset.features = {
      {"text_cnn", {text, {}}}, {"audio_opensmile", {audio, {}}}, {"video_3dcnn", {video, {}}}};
  dataset.labels["bin"] = {labels, LabelKind::binary, 0, 1};
  dataset.splits["bclstm"] = split;
  return dataset;
}

}  // namespace cmir

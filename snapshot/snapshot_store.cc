#include "snapshot/snapshot_store.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

std::string NewName(absl::string_view name) { return absl::StrCat(".", name, ".new"); }
std::string OldName(absl::string_view name) { return absl::StrCat(".", name, ".old"); }
std::string PathIn(absl::string_view directory, absl::string_view name) {
  return absl::StrCat(directory, "/", name);
}

absl::Status CheckName(absl::string_view name) {
  if (IsSnapshotName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "'", name, "': must be 1 to 63 letters, digits, '-', '_' or '.', and begin with no dot"));
}

absl::StatusOr<bool> IsThere(FileLayer* layer, absl::string_view name) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, layer->List(""));
  return std::ranges::count(names, name) != 0;
}

absl::Status Damaged(absl::string_view file, const std::string& what) {
  return WithReason(absl::DataLossError(absl::StrCat("snapshot's file ", file, ": ", what)),
                    "SNAPSHOT_FILE_DAMAGED");
}

absl::Status CheckFile(FileLayer* layer, absl::string_view snapshot, const Manifest::File& file,
                       bool digests) {
  const auto facts = layer->Examine(PathIn(snapshot, file.name), digests);
  if (absl::IsNotFound(facts.status())) return Damaged(file.name, "missing");
  RETURN_IF_ERROR(facts);
  if (facts->bytes != file.bytes)
    return Damaged(file.name,
                   absl::StrCat("it has ", facts->bytes, " bytes; the manifest says ", file.bytes));
  if (digests && facts->crc64 != file.crc64)
    return Damaged(file.name, absl::StrFormat("its CRC-64 is %016x; the manifest says %016x",
                                              facts->crc64, file.crc64));
  return absl::OkStatus();
}

}  // namespace

SnapshotWriter::SnapshotWriter(FileLayer* layer, std::string name)
    : layer_(layer), name_(std::move(name)), temporary_(NewName(name_)) {}

absl::StatusOr<std::unique_ptr<SnapshotWriter>> SnapshotWriter::Create(FileLayer* layer,
                                                                       absl::string_view name) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(const bool there, IsThere(layer, name));
  if (there) return absl::AlreadyExistsError(absl::StrCat("snapshot ", name, " is there already"));
  RETURN_IF_ERROR(layer->MakeDirectory(NewName(name)));
  return std::unique_ptr<SnapshotWriter>(new SnapshotWriter(layer, std::string(name)));
}

SnapshotWriter::~SnapshotWriter() {
  if (committed_) return;
  if (const absl::Status status = layer_->RemoveDirectory(temporary_); !status.ok())
    Log(LogLevel::kWarning, "an unfinished snapshot stays until the next start",
        {{"snapshot", name_}, {"error", status.ToString()}});
}

absl::StatusOr<std::unique_ptr<OutputFile>> SnapshotWriter::CreateFile(absl::string_view name) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file, layer_->CreateFile(PathIn(temporary_, name)));
  files_.emplace_back(name);
  return file;
}

absl::Status SnapshotWriter::WriteFile(absl::string_view name, absl::string_view content) {
  ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, CreateFile(name));
  RETURN_IF_ERROR(
      file->Write(0, {reinterpret_cast<const uint8_t*>(content.data()), content.size()}));
  return file->Sync();
}

absl::Status SnapshotWriter::CheckManifest(const Manifest& manifest) const {
  std::vector<std::string> listed, made = files_;
  for (const Manifest::File& file : manifest.files) listed.push_back(file.name);
  std::ranges::sort(listed);
  std::ranges::sort(made);
  if (listed != made || listed.size() > Manifest::kMostFiles)
    return absl::InvalidArgumentError("the manifest does not list the files that were made");
  for (const Manifest::File& file : manifest.files)
    RETURN_IF_ERROR(CheckFile(layer_, temporary_, file, /*digests=*/false));
  return absl::OkStatus();
}

absl::Status SnapshotWriter::Commit(const Manifest& manifest) {
  RETURN_IF_ERROR(CheckManifest(manifest));
  RETURN_IF_ERROR(WriteFile(Manifest::kName, FormatManifest(manifest)));
  RETURN_IF_ERROR(layer_->SyncDirectory(temporary_));
  RETURN_IF_ERROR(layer_->Rename(temporary_, name_));
  committed_ = true;
  return layer_->SyncDirectory("");
}

absl::StatusOr<std::vector<std::string>> ListSnapshots(FileLayer* layer) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, layer->List(""));
  std::erase_if(names, [](const std::string& name) { return !IsSnapshotName(name); });
  return names;
}

absl::StatusOr<Manifest> CheckSnapshot(FileLayer* layer, absl::string_view name, bool digests) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(const bool there, IsThere(layer, name));
  if (!there) return absl::NotFoundError(absl::StrCat("no snapshot ", name));
  const auto text = layer->ReadFile(PathIn(name, Manifest::kName), Manifest::kMostBytes);
  if (absl::IsNotFound(text.status())) return Damaged(Manifest::kName, "missing");
  RETURN_IF_ERROR(text);
  ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(*text));
  for (const Manifest::File& file : manifest.files)
    RETURN_IF_ERROR(CheckFile(layer, name, file, digests));
  return manifest;
}

absl::Status DeleteSnapshot(FileLayer* layer, absl::string_view name) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(const bool there, IsThere(layer, name));
  if (!there) return absl::NotFoundError(absl::StrCat("no snapshot ", name));
  RETURN_IF_ERROR(layer->RemoveDirectory(OldName(name)));
  RETURN_IF_ERROR(layer->Rename(std::string(name), OldName(name)));
  RETURN_IF_ERROR(layer->SyncDirectory(""));
  return layer->RemoveDirectory(OldName(name));
}

absl::Status RecoverSnapshots(FileLayer* layer) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, layer->List(""));
  for (const std::string& name : names)
    if (absl::StartsWith(name, ".") &&
        (absl::EndsWith(name, ".new") || absl::EndsWith(name, ".old")))
      RETURN_IF_ERROR(layer->RemoveDirectory(name));
  return layer->SyncDirectory("");
}

}  // namespace drover

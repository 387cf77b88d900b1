import Foundation
import LangevinDiffusion
import LangevinTensor

@testable import Langevin
@testable import LangevinJSON
@testable import LangevinModels

/// What libFuzzer calls with each input. The environment's LANGEVIN_FUZZ says which reader gets it.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  target.run(UnsafeRawBufferPointer(start: start, count: count))
  return 0
}

private let target: Target = {
  let name = ProcessInfo.processInfo.environment["LANGEVIN_FUZZ"] ?? ""
  guard let target = Target(rawValue: name) else {
    let names = Target.allCases.map(\.rawValue).joined(separator: ", ")
    FileHandle.standardError.write(Data("LANGEVIN_FUZZ must be one of \(names), got '\(name)'\n".utf8))
    exit(64)
  }
  return target
}()

/// The readers of files and texts from elsewhere. Each may throw; it may not trap, hang or take much memory, and what it
/// accepts must be what it says.
enum Target: String, CaseIterable {
  case safetensors, gguf, json, clip, t5, scheduler, picture, parameters, prompt, tar

  func run(_ input: UnsafeRawBufferPointer) {
    switch self {
    case .safetensors: readSafetensors(input)
    case .gguf: readGGUF(input)
    case .json: readJson([UInt8](input))
    case .clip: readClip([UInt8](input))
    case .t5: readT5([UInt8](input))
    case .scheduler: readScheduler([UInt8](input))
    case .picture: readPicture([UInt8](input))
    case .parameters: readParameters(String(decoding: input, as: UTF8.self))
    case .prompt: readPrompt(String(decoding: input, as: UTF8.self))
    case .tar: readTar([UInt8](input))
    }
  }
}

/// Tensors lie within the file, in the size that their shapes ask for.
private func readSafetensors(_ input: UnsafeRawBufferPointer) {
  guard let header = try? SafetensorsHeader(parsing: input, path: "f") else { return }
  for entry in header.entries {
    precondition(header.dataOffset + entry.range.upperBound <= input.count)
    let shape = Shape(entry.shape)
    precondition(shape.checkedCount == shape.count && shape.strides.count == shape.rank)
    precondition(entry.dtype.bitCount * shape.count == entry.range.count * 8)
  }
}

/// As safetensors, and each block is whole.
private func readGGUF(_ input: UnsafeRawBufferPointer) {
  guard let header = try? GGUFHeader(parsing: input, path: "f") else { return }
  for entry in header.entries {
    precondition(entry.range.lowerBound >= 0 && entry.range.upperBound <= input.count)
    let shape = Shape(entry.shape)
    precondition(shape.checkedCount == shape.count && shape.strides.count == shape.rank)
    precondition(shape.count % entry.type.elementCount == 0)
    precondition(shape.count / entry.type.elementCount * entry.type.byteCount == entry.range.count)
  }
}

/// What is written is read back as the same.
private func readJson(_ input: [UInt8]) {
  guard let value = try? StrictJSON(parsing: input, nonFinite: true) else { return }
  let again = try? StrictJSON(parsing: [UInt8](value.data), nonFinite: true)
  precondition(again == value)
  _ = try? ConfigObject(value)
}

/// A tokenizer.json and, behind a zero, a text.
private func split(_ input: [UInt8]) -> (document: [UInt8], text: String) {
  let end = input.firstIndex(of: 0) ?? input.endIndex
  return (Array(input[..<end]), String(decoding: input[end...].dropFirst(), as: UTF8.self))
}

/// A folder in memory, for readers of folders.
private let folder: URL = {
  let root = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : "/tmp"
  let url = URL(fileURLWithPath: "\(root)/langevin-fuzz-\(getpid())")
  try? FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  atexit { try? FileManager.default.removeItem(at: folder) }
  return url
}()

private func write(_ document: [UInt8]) {
  guard let file = fopen(folder.path + "/tokenizer.json", "w") else { return }
  fwrite(document, 1, document.count, file)
  fclose(file)
}

private func readClip(_ input: [UInt8]) {
  let (document, text) = split(input)
  write(document)
  guard let tokenizer = try? CLIPTokenizer(folder: folder) else { return }
  _ = tokenizer.decode(tokenizer.encode(text))
  let sequence = tokenizer(text, length: 8)
  precondition(sequence.ids.count == 8 && sequence.textCount <= 6)
  check(tokenizer, text)
}

private func readT5(_ input: [UInt8]) {
  let (document, text) = split(input)
  write(document)
  guard let tokenizer = try? T5Tokenizer(folder: folder) else { return }
  _ = tokenizer.decode(tokenizer.encode(text))
  precondition(tokenizer(text, length: 32).ids.count == 32)
}

/// What a sampler makes of an accepted file falls from noise to none, in numbers.
private func readScheduler(_ input: [UInt8]) {
  guard let file = try? SchedulerFile(json: Data(input)), file.noise.trainTimesteps <= 10_000 else { return }
  for sampler in SamplerRegistry.all {
    guard let schedule = try? sampler.make(file).schedule(file.noise, steps: 5) else { continue }
    precondition(schedule.initialScale.isFinite && schedule.steps.count == 5)
    for step in schedule.steps {
      for level in [step.from, step.to] { precondition(level.alpha.isFinite && level.sigma.isFinite) }
      precondition(step.from.sigma > 0)
    }
  }
}

private func readPicture(_ input: [UInt8]) {
  var limits = ImageLimits()
  (limits.pixels, limits.metadata) = (1 << 16, 1 << 16)
  var bytes = input
  mendChecksums(&bytes)
  guard let file = bytes.withUnsafeBytes({ try? Picture.decode($0, path: "f", limits: limits) }) else {
    return
  }
  precondition(file.picture.width * file.picture.height <= limits.pixels)
  for text in file.texts.values { readParameters(text) }
}

/// Every chunk of a PNG file with the checksum that it should have, which no fuzzer would guess.
private func mendChecksums(_ bytes: inout [UInt8]) {
  var position = 8
  while position + 12 <= bytes.count {
    let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
    let end = position + 8 + length
    guard end + 4 <= bytes.count else { return }
    let crc = ~bytes[position + 4..<end].reduce(~0 as UInt32) { crc, byte in
      (0..<8).reduce(crc ^ UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    for index in 0..<4 { bytes[end + index] = UInt8(truncatingIfNeeded: crc >> (24 - 8 * index)) }
    position = end + 4
  }
}

/// A second reading of what was written finds nothing new.
private func readParameters(_ text: String) {
  let read = PictureParameters(parsing: text)
  for field in read.fields { precondition(read[field.name] != nil) }
  _ = PictureParameters(parsing: read.description)
}

private let tokenizer: CLIPTokenizer = {
  guard let tokenizer = try? CLIPTokenizer(merges: "a b</w>\nc d\ncd e</w>\n") else {
    preconditionFailure("these merges are good")
  }
  return tokenizer
}()

private func readPrompt(_ text: String) {
  check(tokenizer, text)
  _ = PromptCleaning.wan(text)
}

/// Chunks are of one length, each between a start and an end token.
private func check(_ tokenizer: CLIPTokenizer, _ text: String) {
  guard let chunks = try? tokenizer.chunks(text, .a1111, length: 8) else { return }
  precondition(!chunks.ids.isEmpty && chunks.ids.count <= CLIPTokenizer.maximumChunks)
  precondition(chunks.ids.count == chunks.weights.count)
  for (ids, weights) in zip(chunks.ids, chunks.weights) {
    precondition(ids.count == 8 && weights.count == 8 && ids[0] == tokenizer.startToken)
  }
}

/// Members lie within the archive, one behind the other. Their contents are read as captions.
private func readTar(_ input: [UInt8]) {
  var bytes = input
  for start in stride(from: 0, to: bytes.count - 511, by: 512)
  where bytes[start..<start + 512].contains(where: { $0 != 0 }) {
    // The checksum that a header should have, which no fuzzer would guess.
    bytes.replaceSubrange(start + 148..<start + 156, with: [UInt8](repeating: 0x20, count: 8))
    let sum = String(bytes[start..<start + 512].reduce(0) { $0 + Int($1) }, radix: 8)
    bytes.replaceSubrange(start + 148..<start + 148 + sum.utf8.count, with: sum.utf8)
  }
  bytes.withUnsafeBytes { bytes in
    guard let index = try? TarIndex(bytes, path: "f") else { return }
    var end = 0
    for member in index.members {
      precondition(member.range.lowerBound >= end + 512 && member.range.upperBound <= bytes.count)
      end = member.range.upperBound
      let place = DataPlace("f", member: member.name)
      _ = try? CaptionEntry(text: UnsafeRawBufferPointer(rebasing: bytes[member.range]), at: place)
      guard let json = try? StrictJSON(parsing: bytes[member.range], at: place) else { continue }
      _ = try? CaptionEntry(json, usual: ["text"], CaptionOptions(), at: place)
    }
  }
}

import Foundation
import LangevinCPU
import LangevinTensor

/// A file's tensors as GGUF, its matrices in blocks: what stable-diffusion.cpp and ComfyUI-GGUF read.
///
/// Names stay, and so does what is no matrix, is of an autoencoder, or is an embedding's, as in stable-diffusion.cpp's own
/// conversion. A row that is no whole blocks of 256 is in `q8_0`.
public struct GGUFConversion: Sendable {
  /// What a conversion made.
  public struct Summary: Sendable, Equatable {
    /// Of all tensors.
    public var tensors = 0
    /// Of those that are in blocks.
    public var inBlocks = 0
    /// Of the tensors, before and after.
    public var bytesBefore = 0, bytesAfter = 0

    static func += (sum: inout Summary, part: Summary) {
      sum.tensors += part.tensors
      sum.inBlocks += part.inBlocks
      sum.bytesBefore += part.bytesBefore
      sum.bytesAfter += part.bytesAfter
    }
  }

  private let source: any TensorFile
  private let entries: [GGUFWriter.Entry]

  /// Opens a safetensors or GGUF file and decides what becomes of each tensor.
  ///
  /// - Parameters:
  ///   - url: of a checkpoint's file, .safetensors or .gguf.
  ///   - encoding: of matrices whose rows are whole blocks.
  ///   - convolutions: whether convolutions, and matrices whose rows are no whole blocks, are laid out in rows of 256 to
  ///     be in blocks too, as ComfyUI-GGUF does; stable-diffusion.cpp does not read that.
  ///
  /// Throws `CheckpointError`: what opening the file throws, and `unsupported` for what GGUF cannot hold.
  public init(_ url: URL, encoding: BlockEncoding, convolutions: Bool = false) throws {
    try self.init(of: TensorFiles.open(url), encoding: encoding, convolutions: convolutions)
  }

  init(of source: any TensorFile, encoding: BlockEncoding, convolutions: Bool) throws {
    let url = source.url
    self.source = source
    entries = try source.names.map { name in
      guard let shape = source.shape(of: name)?.dimensions else {
        throw CheckpointError.missingTensor(path: url.path, name: name)
      }
      guard let type = source.ggufType(of: name) else {
        throw CheckpointError.unsupported(
          path: url.path, found: "tensor '\(name)' of a type that GGUF does not have",
          supported: GGUFType.allCases.map(\.name))
      }
      return Self.entry(name, type, shape, encoding, flattens: convolutions)
    }
  }

  private static func entry(
    _ name: String, _ type: GGUFType, _ shape: [Int], _ encoding: BlockEncoding, flattens: Bool
  ) -> GGUFWriter.Entry {
    var entry = GGUFWriter.Entry(name: name, type: type, shape: shape)
    if let width = shape.last, type.encoding != nil, width % type.elementCount != 0 {
      entry.isFlattened = true
      return entry
    }
    guard type.dtype?.isFloatingPoint == true, isWeight(name), shape.count == 2 || shape.count == 4,
      let width = shape.last, entry.count > 0
    else { return entry }
    for encoding in [encoding, .q8] where shape.count == 2 && width % encoding.elementCount == 0 {
      // A whole row of the wanted blocks comes first, and rows of 256 before other blocks.
      if encoding == .q8, flattens, entry.count % 256 == 0 { break }
      entry.type = GGUFType(encoding)
      return entry
    }
    if flattens, entry.count % 256 == 0 { (entry.type, entry.isFlattened) = (GGUFType(encoding), true) }
    return entry
  }

  private static func isWeight(_ name: String) -> Bool {
    // `shared` is T5's table.
    name.hasSuffix("weight") && !name.hasPrefix("first_stage_model.") && !name.contains("embed")
      && !name.contains("label_emb.") && name != "shared.weight"
  }

  /// Writes the file, which appears under its name when it is complete. `progress` gets how many tensors are done, and of how
  /// many.
  ///
  /// Throws `CheckpointError.unwritable`, and what `progress` throws.
  public func write(to url: URL, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }) throws
    -> Summary
  {
    var summary = Summary(tensors: entries.count, bytesAfter: entries.reduce(0) { $0 + $1.byteCount })
    let host = Device(CPUBackend())
    try GGUFWriter.write(entries, to: url) { index, put in
      let entry = entries[index]
      try progress(index, entries.count)
      if entry.type.encoding != nil { summary.inBlocks += 1 }
      let before = try source.withBytes(of: entry.name) { bytes in
        if source.ggufType(of: entry.name) == entry.type { try put(bytes) }
        return bytes.count
      }
      summary.bytesBefore += before
      guard let encoding = entry.type.encoding, source.ggufType(of: entry.name) != entry.type else { return }
      try encoding.encoded(source.load(entry.name, on: host).floats()).withUnsafeBytes(put)
    }
    try progress(entries.count, entries.count)
    return summary
  }
}

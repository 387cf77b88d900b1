import Foundation
import LangevinTensor

/// Writes tensors as one GGUF file, version 3.
enum GGUFWriter {
  /// What is written of a tensor. Extents are the outermost first.
  struct Entry {
    var name: String
    var type: GGUFType
    var shape: [Int]
    /// Of whole blocks in rows of 256, where the innermost extent has none: ComfyUI-GGUF's way, which needs the shape beside.
    var isFlattened = false

    var count: Int { Shape(shape).count }
    var byteCount: Int { count / type.elementCount * type.byteCount }
    /// Whether the shape is written beside, since the extents are another: GGUF has four at most.
    var notesShape: Bool { isFlattened || shape.count > 4 }
    /// As ggml has them, the innermost first.
    var extents: [Int] {
      if isFlattened { return [256, count / 256] }
      let outer = shape.dropLast(3).reduce(1, *)
      return shape.isEmpty ? [1] : shape.count > 4 ? shape.suffix(3).reversed() + [outer] : shape.reversed()
    }
  }

  static let alignment = 32

  /// Tensors in the order given, each of which is asked for when its turn comes and is `byteCount` bytes; the file appears
  /// under its name only when it is complete.
  ///
  /// Throws `CheckpointError.unwritable`, `.duplicateKey`, and what `bytes` throws.
  static func write(
    _ entries: [Entry], metadata: [(key: String, text: String)] = [], to url: URL,
    _ bytes: (_ index: Int, _ put: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    let header = try header(entries, metadata: metadata, path: url.path)
    do {
      try OutputFile.write(to: url) { put in
        try withoutActuallyEscaping(put) { put in
          try header.withUnsafeBytes(put)
          for (index, entry) in entries.enumerated() {
            try bytes(index, put)
            try [UInt8](repeating: 0, count: padding(entry.byteCount)).withUnsafeBytes(put)
          }
        }
      }
    } catch ImageError.unwritable(let path, let reason) {
      throw CheckpointError.unwritable(path: path, reason: reason)
    }
  }

  private static func padding(_ count: Int) -> Int { (alignment - count % alignment) % alignment }

  /// All that stands before the tensors' bytes, with its padding.
  static func header(_ entries: [Entry], metadata: [(key: String, text: String)], path: String) throws
    -> [UInt8]
  {
    var names: Set<String> = []
    for entry in entries where !names.insert(entry.name).inserted {
      throw CheckpointError.duplicateKey(path: path, key: entry.name)
    }
    var bytes = GGUFHeader.magic
    func put<T: FixedWidthInteger>(_ number: T) {
      withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
    }
    func put(_ text: String) {
      put(UInt64(text.utf8.count))
      bytes += Array(text.utf8)
    }
    let noted = entries.filter(\.notesShape)
    put(GGUFHeader.versions.upperBound)
    put(UInt64(entries.count))
    put(UInt64(metadata.count + 1 + noted.count))
    put("general.quantization_version")
    put(UInt32(4))
    put(UInt32(2))
    for (key, text) in metadata {
      put(key)
      put(UInt32(8))
      put(text)
    }
    for entry in noted {
      // A list of int32.
      put(GGUFHeader.shapeKey + entry.name)
      put(UInt32(9))
      put(UInt32(5))
      put(UInt64(entry.shape.count))
      for extent in entry.shape { put(Int32(clamping: extent)) }
    }
    var offset = 0
    for entry in entries {
      put(entry.name)
      put(UInt32(entry.extents.count))
      for extent in entry.extents { put(UInt64(extent)) }
      put(entry.type.rawValue)
      put(UInt64(offset))
      offset += entry.byteCount + padding(entry.byteCount)
    }
    return bytes + [UInt8](repeating: 0, count: padding(bytes.count))
  }
}

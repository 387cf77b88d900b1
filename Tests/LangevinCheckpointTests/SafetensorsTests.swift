import Foundation
import LangevinTensor
import Testing

@testable import Langevin

/// A file: header length, header, data.
func safetensors(_ header: String, data: Int = 0) -> [UInt8] { safetensors(Array(header.utf8), data: data) }

func safetensors(_ header: [UInt8], data: Int = 0) -> [UInt8] {
  let length = UInt64(header.count)
  return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) } + header
    + (0..<data).map { UInt8(truncatingIfNeeded: $0 &* 37) }
}

private let a = #""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#
private let b = #""b":{"dtype":"F16","shape":[3,1],"data_offsets":[8,14]}"#

enum Refusal: Sendable {
  case truncated, malformed, duplicateKey, pickle
}

struct BadHeader: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let bytes: [UInt8]
  let refusal: Refusal
  var reason = ""

  init(_ name: String, _ bytes: [UInt8], _ refusal: Refusal = .malformed, _ reason: String = "") {
    testDescription = name
    self.bytes = bytes
    self.refusal = refusal
    self.reason = reason
  }

  /// One entry named `a` with these fields and 8 bytes of data.
  init(entry: String, data: Int = 8, _ reason: String) {
    self.init(entry, safetensors(#"{"a":\#(entry)}"#, data: data), .malformed, reason)
  }
}

private let badHeaders: [BadHeader] = [
  BadHeader("empty file", [], .truncated),
  BadHeader("seven bytes", [2, 0, 0, 0, 0, 0, 0], .truncated),
  BadHeader("no header", safetensors(""), .malformed, "begin"),
  BadHeader("header cut", Array(safetensors("{\(a)}").prefix(30)), .truncated),
  BadHeader(
    "length over the limit", [1, 0xE1, 0xF5, 5, 0, 0, 0, 0] + Array("{}".utf8), .malformed, "100000001"),
  BadHeader(
    "length of all ones", [UInt8](repeating: 255, count: 8) + Array("{}".utf8), .malformed, "at most"),
  BadHeader("space before the brace", safetensors(" {\(a)}", data: 8), .malformed, "'{'"),
  BadHeader("byte order mark", safetensors("\u{FEFF}{\(a)}", data: 8), .malformed, "'{'"),
  BadHeader("an array", safetensors("[]"), .malformed, "'{'"),
  BadHeader(
    "invalid UTF-8", safetensors(Array(#"{"a"#.utf8) + [0xFF] + Array(#"":{}}"#.utf8)), .malformed, "UTF-8"),
  BadHeader(
    "overlong UTF-8", safetensors(Array(#"{""#.utf8) + [0xC0, 0x80] + Array(#"":{}}"#.utf8)), .malformed,
    "UTF-8"),
  BadHeader(
    "surrogate in UTF-8", safetensors(Array(#"{""#.utf8) + [0xED, 0xA0, 0x80] + Array(#"":{}}"#.utf8))),
  BadHeader("NUL after the end", safetensors("{\(a)}\0", data: 8), .malformed, "after the end"),
  BadHeader("two documents", safetensors("{\(a)}{}", data: 8), .malformed, "after the end"),
  BadHeader("trailing comma", safetensors("{\(a),}", data: 8), .malformed, "key is expected"),
  BadHeader("no closing brace", safetensors("{\(a)", data: 8)),
  BadHeader("single quotes", safetensors("{'a':{}}")),
  BadHeader("comment", safetensors("{/**/}")),
  BadHeader("control character", safetensors(#"{"a\#n":{}}"#), .malformed, "control"),
  BadHeader("unknown escape", safetensors(#"{"\x":{}}"#), .malformed, "escape"),
  BadHeader("lone surrogate", safetensors(#"{"\ud800":{}}"#), .malformed, "surrogate"),
  BadHeader("low surrogate first", safetensors(#"{"\udc00":{}}"#), .malformed, "surrogate"),
  BadHeader("surrogate and letter", safetensors(#"{"\ud800\u0041":{}}"#), .malformed, "surrogate"),
  BadHeader("short escape", safetensors(#"{"\u00":{}}"#), .malformed, "hexadecimal"),
  BadHeader(
    "deep nesting", safetensors("{\"a\":" + String(repeating: "[", count: 100_000)), .malformed, "deep"),
  BadHeader("duplicate tensor", safetensors("{\(a),\(a)}", data: 8), .duplicateKey),
  BadHeader("duplicate by escape", safetensors(#"{\#(a),"\u0061":{}}"#, data: 8), .duplicateKey),
  BadHeader(
    "duplicate metadata", safetensors(#"{"__metadata__":{},"__metadata__":{}}"#), .duplicateKey),
  BadHeader(
    "duplicate key in metadata", safetensors(#"{"__metadata__":{"a":"b","a":"c"}}"#), .duplicateKey),
  BadHeader(
    "duplicate field",
    safetensors(#"{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, data: 4),
    .duplicateKey),
  BadHeader("metadata of numbers", safetensors(#"{"__metadata__":{"a":1}}"#), .malformed, "not a string"),
  BadHeader("metadata a list", safetensors(#"{"__metadata__":[]}"#), .malformed, "not an object"),
  BadHeader("metadata null", safetensors(#"{"__metadata__":null}"#), .malformed, "not an object"),
  BadHeader(entry: #"7"#, "not an object"),
  BadHeader(entry: #"["F32",[2],[0,8]]"#, "not an object"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}"#, "'x' is unknown"),
  BadHeader(entry: #"{"shape":[2],"data_offsets":[0,8]}"#, "no dtype"),
  BadHeader(entry: #"{"dtype":"F32","data_offsets":[0,8]}"#, "no shape"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2]}"#, "no data_offsets"),
  BadHeader(entry: #"{"dtype":"F31","shape":[2],"data_offsets":[0,8]}"#, "'F31' is unknown"),
  BadHeader(entry: #"{"dtype":"f32","shape":[2],"data_offsets":[0,8]}"#, "'f32' is unknown"),
  BadHeader(entry: #"{"dtype":1,"shape":[2],"data_offsets":[0,8]}"#, "no dtype"),
  BadHeader(entry: #"{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#, "non-negative"),
  BadHeader(entry: #"{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}"#, data: 0, "non-negative"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}"#, "non-negative"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}"#, "non-negative"),
  BadHeader(entry: #"{"dtype":"F32","shape":[02],"data_offsets":[0,8]}"#, "begins with 0"),
  BadHeader(entry: #"{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}"#, "non-negative"),
  BadHeader(entry: #"{"dtype":"F32","shape":2,"data_offsets":[0,8]}"#, "no shape"),
  BadHeader(entry: #"{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}"#, "non-negative"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2],"data_offsets":[0]}"#, "pair"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}"#, "pair"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2],"data_offsets":[0,-8]}"#, "pair"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#, "before they begin"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2],"data_offsets":[1,9]}"#, data: 9, "begin at 1"),
  BadHeader(entry: #"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#, "needs 12"),
  BadHeader(entry: #"{"dtype":"F16","shape":[2],"data_offsets":[0,8]}"#, "needs 4"),
  BadHeader(entry: #"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#, data: 2, "whole number of bytes"),
  BadHeader(
    entry: #"{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}"#, data: 0, "possible"),
  BadHeader(entry: #"{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,8]}"#, "possible"),
  // Nothing is stored, and yet strides overflow and loops over the first axis take hours.
  BadHeader(
    entry: #"{"dtype":"F32","shape":[4,0,1099511627776,1099511627776],"data_offsets":[0,0]}"#, data: 0,
    "possible"),
  BadHeader(entry: #"{"dtype":"F32","shape":[2147483648,0],"data_offsets":[0,0]}"#, data: 0, "possible"),
  BadHeader(entry: #"{"dtype":"F32","shape":[0,16777217],"data_offsets":[0,0]}"#, data: 0, "possible"),
  BadHeader(
    "a hole", safetensors(#"{\#(a),"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}}"#, data: 10),
    .malformed,
    "begin at 9"),
  BadHeader(
    "an overlap", safetensors(#"{\#(a),"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#, data: 8),
    .malformed,
    "begin at 4"),
  BadHeader(
    "the same bytes twice",
    safetensors(#"{\#(a),"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, data: 8)),
  BadHeader("data cut", safetensors("{\(a),\(b)}", data: 13), .truncated),
  BadHeader("no data", safetensors("{\(a),\(b)}"), .truncated),
  BadHeader("data too long", safetensors("{\(a),\(b)}", data: 15), .malformed, "belong to no tensor"),
  BadHeader("a zip archive", [0x50, 0x4B, 3, 4] + [UInt8](repeating: 0, count: 60), .pickle),
  BadHeader("a pickle", [0x80, 2, 0x8A, 10] + [UInt8](repeating: 0, count: 60), .pickle),
]

@Suite struct SafetensorsTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test(arguments: badHeaders) func refuses(_ bad: BadHeader) throws {
    let url = try folder.write(bad.bytes, "bad.safetensors")
    let error = #expect(throws: CheckpointError.self) { try SafetensorsFile(url: url) }
    guard let error else { return }
    #expect(error.description.contains(url.path) && !error.description.contains("\n"))
    #expect(bad.reason.isEmpty || error.description.contains(bad.reason))
    switch (error, bad.refusal) {
    case (.truncated, .truncated), (.malformed, .malformed), (.duplicateKey, .duplicateKey),
      (.pickle, .pickle):
      break
    default: Issue.record("refused as \(error)")
    }
  }

  @Test func everyPrefixIsRefused() throws {
    let whole = safetensors("{\(a),\(b)}", data: 14)
    for count in whole.indices {
      let url = try folder.write(Array(whole.prefix(count)), "cut.safetensors")
      #expect(throws: CheckpointError.self, "\(count) bytes") { try SafetensorsFile(url: url) }
    }
    _ = try SafetensorsFile(url: try folder.write(whole, "cut.safetensors"))
  }

  /// Whatever the bytes, the answer is a file whose tensors can all be read, or a CheckpointError.
  @Test func mutations() throws {
    let whole = safetensors("{\"__metadata__\":{\"k\":\"v\"},\(a),\(b)}", data: 14)
    var generator = SeededGenerator(state: 2)
    let spice = Array(#"{}[]",:\0123456789eEuF-+. "#.utf8) + [0, 0x80, 0xFF]
    var accepted = 0
    for _ in 0..<4000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...2, using: &generator) {
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes[place] = spice[Int.random(in: 0..<spice.count, using: &generator)]
        case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2: bytes.remove(at: place)
        default: bytes.insert(spice[Int.random(in: 0..<spice.count, using: &generator)], at: place)
        }
      }
      let parsed = bytes.withUnsafeBytes { bytes in
        Result { try SafetensorsHeader(parsing: bytes, path: "mutated") }
      }
      switch parsed {
      case .success(let header):
        accepted += 1
        #expect(header.entries.allSatisfy { header.dataOffset + $0.range.upperBound <= bytes.count })
      case .failure(let error): #expect(error is CheckpointError)
      }
    }
    // Changes within the data or a name keep the file valid.
    #expect(accepted > 100 && accepted < 2000, "\(accepted) accepted")
  }

  @Test func readsWhatIsThere() throws {
    let header =
      #"{"__metadata__":{"format":"pt"},\#(b),\#(a),"\u00e9\/\ud83d\ude00":{"dtype":"I64","shape":[],"data_offsets":[14,22]},"z":{"dtype":"F32","shape":[0,4],"data_offsets":[14,14]}} \#n\#t"#
    let file = try SafetensorsFile(url: try folder.write(safetensors(header, data: 22), "good.safetensors"))
    #expect(file.metadata == ["format": "pt"])
    #expect(file.names == ["a", "b", "z", "é/😀"])
    #expect(file.spec(of: "a") == TensorSpec([2], .float32))
    #expect(file.spec(of: "b") == TensorSpec([3, 1], .float16))
    #expect(file.spec(of: "z") == TensorSpec([0, 4], .float32))
    #expect(file.spec(of: "é/😀") == nil)
    #expect(file.spec(of: "c") == nil)
    let bytes = try file.load("b", on: host).withBytes { Array($0) }
    let written: [UInt8] = (8..<14).map { UInt8($0 * 37 & 255) }
    #expect(bytes == written)
    // Its pages were given back; they come again from the file.
    #expect(try file.load("b", on: host).withBytes { Array($0) } == bytes)
    #expect(try file.load("z", on: host).shape == [0, 4])
    #expect(throws: CheckpointError.missingTensor(path: file.url.path, name: "c")) {
      try file.load("c", on: host)
    }
    #expect(throws: CheckpointError.unsupportedDType(path: file.url.path, tensor: "é/😀", dtype: "I64")) {
      try file.load("é/😀", on: host)
    }
  }

  @Test func everyDTypeHasItsSize() throws {
    for type in ElementType.allCases {
      let bytes = type.bitCount
      let header = #"{"x":{"dtype":"\#(type.rawValue)","shape":[8],"data_offsets":[0,\#(bytes)]}}"#
      let file = try SafetensorsFile(url: try folder.write(safetensors(header, data: bytes), "x.safetensors"))
      #expect(file.shape(of: "x") == [8])
      #expect(file.spec(of: "x")?.dtype == type.dtype)
    }
  }

  @Test func missingFileFolderAndPickleNames() throws {
    let missing = folder.url.appendingPathComponent("none.safetensors")
    #expect(throws: CheckpointError.missingFile(path: missing.path)) { try SafetensorsFile(url: missing) }
    let error = #expect(throws: CheckpointError.self) { try SafetensorsFile(url: folder.url) }
    #expect(error?.description.contains("regular file") == true)
    for name in ["model.ckpt", "model.pt", "pytorch_model.bin", "Model.CKPT"] {
      let url = try folder.write([1, 2, 3], name)
      let error = #expect(throws: CheckpointError.pickle(path: url.path)) { try SafetensorsFile(url: url) }
      #expect(error?.description.contains("save_file") == true)
    }
  }

  /// The mapping must not count beside the device's copy.
  @Test func pagesAreGivenBack() throws {
    let header = #"{"x":{"dtype":"F32","shape":[2097152],"data_offsets":[0,8388608]}}"#
    let url = try folder.write(safetensors(header, data: 8_388_608), "large.safetensors")
    let file = try SafetensorsFile(url: url)
    let tensor = try file.load("x", on: host)
    let smaps = try #require(try FileHandle(forReadingAtPath: "/proc/self/smaps")?.readToEnd())
    let maps = String(decoding: smaps, as: UTF8.self).split(separator: "\n")
    let entry = try #require(
      maps.firstIndex { $0.hasSuffix(url.lastPathComponent) && $0.contains(folder.url.path) })
    let line = try #require(maps[entry...].first { $0.hasPrefix("Rss:") })
    let resident = try #require(line.split(separator: " ").compactMap { Int($0) }.first)
    #expect(resident <= 256, "\(resident) KiB")
    #expect(try tensor.withBytes { $0[8_388_607] } == UInt8(truncatingIfNeeded: 8_388_607 * 37))
    // The file must have been mapped until here.
    #expect(withExtendedLifetime(file) { file.names } == ["x"])
  }

  // MARK: Writing

  @Test func writerLayout() throws {
    let url = folder.url.appendingPathComponent("out.safetensors")
    let x = try Tensor([1, -2] as [Float], [1, 2], on: host)
    let y = try Tensor([7] as [Int32], [1], on: host)
    try SafetensorsWriter.write([("y", y), ("x", x)], metadata: ["k": "a\"\\\n"], to: url)
    // Python's safetensors was seen to read these bytes when they were made.
    let golden = fixtures.appendingPathComponent("single-file/writer.safetensors")
    #expect(try Data(contentsOf: url) == Data(contentsOf: golden))

    let file = try SafetensorsFile(url: url)
    #expect(file.names == ["y", "x"])
    #expect(file.metadata == ["k": "a\"\\\n"])
    #expect(try file.load("x", on: host).floats() == [1, -2])
    #expect(try file.load("y", on: host).int32s() == [7])
    // Nothing but the file is left.
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["out.safetensors"])
  }

  @Test func writerRefusesAndLeavesNothing() throws {
    let x = try Tensor([1, -2] as [Float], [1, 2], on: host)
    let url = folder.url.appendingPathComponent("out.safetensors")
    #expect(throws: CheckpointError.duplicateKey(path: url.path, key: "x")) {
      try SafetensorsWriter.write([("x", x), ("x", x)], to: url)
    }
    #expect(throws: CheckpointError.duplicateKey(path: url.path, key: "__metadata__")) {
      try SafetensorsWriter.write([("__metadata__", x)], to: url)
    }
    let nowhere = URL(fileURLWithPath: "/proc/none/out.safetensors")
    #expect(throws: CheckpointError.self) { try SafetensorsWriter.write([("x", x)], to: nowhere) }
    // A folder stands where the file should go: the rename fails at the very end.
    let occupied = folder.url.appendingPathComponent("occupied")
    try FileManager.default.createDirectory(at: occupied, withIntermediateDirectories: false)
    #expect(throws: CheckpointError.self) { try SafetensorsWriter.write([("x", x)], to: occupied) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["occupied"])
  }

  // MARK: Shards

  @Test func shards() throws {
    let x = try Tensor([1, -2] as [Float], [1, 2], on: host)
    let y = try Tensor([3] as [Float], [1], on: host)
    try SafetensorsWriter.write([("x", x)], to: folder.url.appendingPathComponent("m-1.safetensors"))
    try SafetensorsWriter.write([("y", y)], to: folder.url.appendingPathComponent("m-2.safetensors"))
    func index(_ map: String) throws -> URL {
      try folder.write(#"{"metadata":{"total_size":12},"weight_map":\#(map)}"#, "m.safetensors.index.json")
    }
    let url = try index(#"{"x":"m-1.safetensors","y":"m-2.safetensors"}"#)
    let sharded = try ShardedCheckpoint(index: url)
    #expect(sharded.names == ["x", "y"])
    #expect(sharded.spec(of: "x") == TensorSpec([1, 2]))
    #expect(try sharded.load("y", on: host).floats() == [3])
    #expect(throws: CheckpointError.missingTensor(path: url.path, name: "z")) {
      try sharded.load("z", on: host)
    }

    func expect(_ map: String, _ expected: CheckpointError) throws {
      let url = try index(map)
      #expect(throws: expected) { try ShardedCheckpoint(index: url) }
    }
    try expect(#"{"x":"m-3.safetensors"}"#, .missingShard(index: url.path, shard: "m-3.safetensors"))
    try expect(
      #"{"x":"m-1.safetensors","y":"m-1.safetensors"}"#,
      .notInShard(index: url.path, shard: "m-1.safetensors", tensor: "y"))
    try expect(#"{"x":"m-1.safetensors","x":"m-1.safetensors"}"#, .duplicateKey(path: url.path, key: "x"))
    for map in [#"{"x":"../m-1.safetensors"}"#, #"{"x":1}"#, "[]", #"{"q":""}"#] {
      let url = try index(map)
      let error = #expect(throws: CheckpointError.self) { try ShardedCheckpoint(index: url) }
      if case .malformed = error {} else { Issue.record("\(map) gave \(String(describing: error))") }
    }
  }

  @Test func tensorsWithoutElementsAreTaken() throws {
    for shape in ["[0]", "[0,8]", "[0,16777216]", "[4096,0,4096]"] {
      let bytes = safetensors(#"{"a":{"dtype":"F32","shape":\#(shape),"data_offsets":[0,0]}}"#)
      let header = try bytes.withUnsafeBytes { try SafetensorsHeader(parsing: $0, path: "f") }
      #expect(header.entries.count == 1)
    }
  }
}

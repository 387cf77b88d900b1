import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import LangevinTestSupport
import Testing

/// Goldens by Pillow: see Tests/Golden/make_pictures.py.
struct PictureTests {
  private static let folder = Fixtures.url.appending(path: "pictures")

  private struct ResizeCase: Decodable {
    let from, to: [Int]
    let pixels: String
  }

  private struct Golden: Decodable {
    let pixels, texts: [String: String]
  }

  private func golden() throws -> Golden {
    try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: Self.folder.appendingPathComponent("pictures.json")))
  }

  private func bytes(hex: String) -> [UInt8] {
    let digits = Array(hex.utf8).map { $0 < 58 ? $0 - 48 : $0 - 87 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  private func pattern(_ width: Int, _ height: Int) throws -> Picture {
    var pixels: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        for c in 0..<3 {
          let smooth = (x * x * 7 + y * 13 * x + c * 85 + y * y * 3) % 256
          pixels.append((x / 3 + y / 2) % 2 != 0 ? UInt8(smooth) : c == x % 3 ? 255 : 0)
        }
      }
    }
    return try Picture(width: width, height: height, pixels: pixels)
  }

  @Test func resizingIsBitEqualToPillow() throws {
    let data = try Data(contentsOf: Self.folder.appendingPathComponent("resize.json"))
    let cases = try JSONDecoder().decode([ResizeCase].self, from: data)
    #expect(cases.count == 8)
    for item in cases {
      let resized = try pattern(item.from[0], item.from[1]).resized(width: item.to[0], height: item.to[1])
      #expect(resized.pixels == bytes(hex: item.pixels), "\(item.from) to \(item.to)")
    }
  }

  @Test func everyKindOfPNGIsRead() throws {
    let golden = try golden()
    #expect(golden.pixels.count == 9)
    for (name, pixels) in golden.pixels {
      let read = try Picture.read(Self.folder.appendingPathComponent("\(name).png"))
      #expect(read.picture.pixels == bytes(hex: pixels), "\(name)")
    }
  }

  @Test func textsOfOtherWritersAreRead() throws {
    for (name, text) in try golden().texts {
      let read = try Picture.read(Self.folder.appendingPathComponent("text_\(name).png"))
      #expect(read.texts == ["parameters": text])
    }
  }

  @Test(arguments: ["a café, ünïcode in Latin-1", "笑顔 😀 needs iTXt", "", "two\nlines: a, \"b\"\\"])
  func writtenFilesReadBack(prompt: String) throws {
    let scratch = try Scratch()
    let parameters = PictureParameters(
      prompt: prompt, negativePrompt: "blurry, 暗い",
      fields: [.init("Steps", "2"), .init("Model", "a, \"b\": c\\d")])
    let picture = try pattern(9, 7)
    let url = scratch.url("picture.png")
    try picture.writePNG(to: url, texts: [(PictureParameters.keyword, parameters.description)])
    let read = try Picture.read(url)
    #expect(read.picture == picture)
    let text = try #require(read.texts[PictureParameters.keyword])
    #expect(text == parameters.description)
    #expect(PictureParameters(parsing: text) == parameters)
    #expect(try scratch.files() == ["picture.png"])
  }

  /// Prompts that look like the convention's own lines, over many seeds.
  @Test func everyPromptIsReadBack() {
    let pieces = [
      "a", "\n", "\r", "\r\n", ",", ": ", "\"", "\\", "\\n", " ", "Negative prompt: ", "\nNegative prompt: x",
      "Steps: 3, Sampler: b", "\nSteps: 3", "\u{301}", "\u{200D}", "é", "笑", "Prompt: x", "\t", "{", "=",
    ]
    for seed in UInt64(0)..<2000 {
      var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1
      func text(_ most: Int) -> String {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let count = Int(state >> 33) % (most + 1)
        return (0..<count).map { _ in
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          return pieces[Int(state >> 33) % pieces.count]
        }.joined()
      }
      let parameters = PictureParameters(
        prompt: text(6), negativePrompt: text(6),
        fields: [.init("Steps", "2"), .init("Init image", text(4)), .init("Init image", text(2))])
      let read = PictureParameters(parsing: parameters.description)
      #expect(
        Array(read.prompt.unicodeScalars) == Array(parameters.prompt.unicodeScalars)
          && Array(read.negativePrompt.unicodeScalars) == Array(parameters.negativePrompt.unicodeScalars)
          && read.fields.map { Array($0.value.unicodeScalars) }
            == parameters.fields.map { Array($0.value.unicodeScalars) },
        "seed \(seed): \(parameters.description.debugDescription)")
    }
  }

  @Test func tensorsClampRoundAndReturn() throws {
    let device = Device(CPUBackend())
    let values: [Float] = [-3, -1, -0.5, 0, 0.5, 1]
    let picture = try Picture(Tensor(values, [1, 1, 2, 3], on: device))
    #expect(picture.pixels == [0, 0, 64, 128, 191, 255])
    let grey = try Picture(Tensor([Float(-1), 1], [1, 2, 1, 1], on: device))
    #expect(grey.pixels == [0, 0, 0, 255, 255, 255] && grey.height == 2)
    let every = try Picture(width: 16, height: 16, pixels: (0..<768).map { UInt8($0 % 256) })
    #expect(try Picture(every.tensor(on: device)) == every)
    #expect(throws: ImageError.self) { try Picture(Tensor([Float(0), .nan, 0], [1, 1, 1, 3], on: device)) }
    #expect(throws: ImageError.self) { try Picture(Tensor([Float(0), 0], [1, 1, 1, 2], on: device)) }
  }

  @Test func damagedFilesAreRefused() throws {
    let scratch = try Scratch()
    let whole = try Data(contentsOf: Self.folder.appendingPathComponent("rgb.png"))
    for length in [0, 7, 20, 60, whole.count / 2] {
      let url = scratch.url("cut.png")
      try whole.prefix(length).write(to: url)
      #expect(throws: ImageError.self, "\(length) bytes") { try Picture.read(url) }
    }
    #expect(throws: ImageError.missingFile(path: "/nonexistent.png")) {
      try Picture.read(URL(fileURLWithPath: "/nonexistent.png"))
    }
  }
}

import Foundation
import LangevinTestSupport
import Testing

@testable import Langevin

/// JPEG and WebP in and out. Goldens by Pillow: see Tests/Golden/make_photos.py.
struct PhotoTests {
  private static let folder = Fixtures.url.appending(path: "pictures")

  private struct Golden: Decodable {
    struct Expected: Decodable {
      let size: [Int]
      let pixels: String
    }
    let pictures: [String: Expected]
    let text: String
  }

  private func golden() throws -> Golden {
    try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: Self.folder.appendingPathComponent("photos.json")))
  }

  /// The largest difference of a level; nil where the sizes differ.
  private func difference(_ a: Picture, _ b: [UInt8]) -> Int? {
    a.pixels.count == b.count ? zip(a.pixels, b).map { abs(Int($0) - Int($1)) }.max() : nil
  }

  private func bytes(hex: String) -> [UInt8] {
    let digits = Array(hex.utf8).map { $0 < 58 ? $0 - 48 : $0 - 87 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  private func smooth(_ width: Int, _ height: Int) throws -> Picture {
    try Picture(
      width: width, height: height,
      pixels: (0..<width * height * 3).map {
        UInt8(40 + $0 / 3 % width * 2 + $0 / 3 / width * 2 + $0 % 3 * 20)
      })
  }

  /// Libraries of another version may round a level otherwise.
  @Test func everyKindIsReadAsPillowReadsIt() throws {
    let golden = try golden()
    #expect(golden.pictures.count == 17)
    for (name, expected) in golden.pictures {
      let read = try Picture.read(Self.folder.appendingPathComponent(name)).picture
      #expect([read.width, read.height] == expected.size, "\(name)")
      let worst = try #require(difference(read, bytes(hex: expected.pixels)), "\(name)")
      let isExact = name.contains("lossless") || name.hasSuffix(".png") || name.hasSuffix("alpha.webp")
      #expect(worst <= (isExact ? 0 : 2), "\(name): \(worst)")
    }
  }

  @Test func textsOfOtherWritersAreRead() throws {
    let text = try golden().text
    for name in ["text.jpg", "text.webp"] {
      #expect(
        try Picture.read(Self.folder.appendingPathComponent(name)).texts == ["parameters": text], "\(name)")
    }
  }

  @Test(arguments: ["png", "jpg", "JPEG", "webp"], ["a cat", "ünïcode 笑顔 😀\nSteps: 2, Sampler: DDIM"])
  func whatIsWrittenIsRead(ending: String, text: String) throws {
    let scratch = try Scratch()
    let picture = try smooth(37, 23)
    let url = scratch.url("picture.\(ending)")
    try picture.write(to: url, text: text)
    let read = try Picture.read(url)
    #expect(read.texts["parameters"] == text)
    let worst = try #require(difference(read.picture, picture.pixels))
    #expect(worst <= (ending == "png" ? 0 : 12), "\(worst)")
    let start = try [UInt8](Data(contentsOf: url).prefix(4))
    let magic: [UInt8] =
      ending == "png" ? [0x89, 0x50] : ending == "webp" ? Array("RIFF".utf8) : [0xFF, 0xD8, 0xFF]
    #expect(start.starts(with: magic))
    // Without a text there is none.
    try picture.write(to: url)
    #expect(try Picture.read(url).texts.isEmpty)
    #expect(try scratch.files() == [url.lastPathComponent])
  }

  @Test func longTextsDoNotFitIntoJPEG() throws {
    let scratch = try Scratch()
    let (picture, text) = (try smooth(8, 8), String(repeating: "a", count: 40_000))
    #expect {
      try picture.write(to: scratch.url("p.jpg"), text: text)
    } throws: {
      "\($0)".contains("40000 characters")
    }
    #expect(try scratch.files().isEmpty)
    try picture.write(to: scratch.url("p.webp"), text: text)
    #expect(try Picture.read(scratch.url("p.webp")).texts["parameters"] == text)
  }

  @Test func damagedFilesAreRefused() throws {
    let scratch = try Scratch()
    for name in ["photo_full.jpg", "photo_progressive.jpg", "photo_lossy.webp", "photo_alpha.webp"] {
      let whole = try Data(contentsOf: Self.folder.appendingPathComponent(name))
      for length in [0, 3, 12, 30, whole.count / 2, whole.count * 3 / 4] {
        let url = scratch.url(name)
        try whole.prefix(length).write(to: url)
        #expect(throws: ImageError.self, "\(name): \(length) bytes") { try Picture.read(url) }
      }
    }
    #expect {
      try Picture.read(Self.folder.appendingPathComponent("animation.webp"))
    } throws: {
      "\($0)".contains("animation")
    }
  }

  @Test func limitsHoldForEveryKind() throws {
    var limits = ImageLimits()
    limits.pixels = 21 * 14
    for name in ["photo_full.jpg", "photo_lossy.webp", "photo_turned.png"] {
      let url = Self.folder.appendingPathComponent(name)
      limits.pixels = 21 * 14
      _ = try Picture.read(url, limits: limits)
      limits.pixels -= 1
      #expect {
        try Picture.read(url, limits: limits)
      } throws: {
        "\($0)".contains("LANGEVIN_MAX_IMAGE_PIXELS")
      }
    }
  }

  /// Blocks with every offset, count and tag out of bounds are no more than absent.
  @Test func damagedEXIFIsAbsent() {
    let whole = Exif(comment: "a text").block
    #expect(Exif(parsing: whole).comment == "a text")
    for length in 0..<whole.count { _ = Exif(parsing: Array(whole[..<length])) }
    for index in whole.indices {
      for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
        var bytes = whole
        bytes[index] = value
        _ = Exif(parsing: bytes)
      }
    }
    let little = [0x49, 0x49, 0x2A, 0, 8, 0, 0, 0, 1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0] as [UInt8]
    #expect(Exif(parsing: little).orientation == 6)
    #expect(Exif(parsing: Array("Exif\0\0".utf8) + little).orientation == 6)
  }

  // MARK: Sizes

  @Test func picturesAreFitted() throws {
    // Left half black, right half white.
    let pixels = (0..<40 * 10 * 3).map { UInt8($0 / 3 % 40 < 20 ? 0 : 255) }
    let wide = try Picture(width: 40, height: 10, pixels: pixels)
    func level(_ picture: Picture, _ x: Int, _ y: Int) -> UInt8 {
      picture.pixels[(y * picture.width + x) * 3]
    }
    for fit in ImageFit.allCases {
      for (width, height) in [(16, 16), (8, 32), (64, 8), (40, 10), (1, 1)] {
        let fitted = wide.fitted(width: width, height: height, fit)
        #expect((fitted.width, fitted.height) == (width, height))
      }
    }
    // Of the crop the outer thirds are gone; of the padding the upper and the lower rows are black.
    let crop = wide.fitted(width: 16, height: 16, .crop)
    #expect(level(crop, 0, 8) == 0 && level(crop, 15, 8) == 255 && level(crop, 15, 0) == 255)
    let pad = wide.fitted(width: 16, height: 16, .pad)
    #expect(level(pad, 15, 8) == 255 && level(pad, 15, 0) == 0 && level(pad, 15, 15) == 0)
    let stretch = wide.fitted(width: 16, height: 16, .stretch)
    #expect(level(stretch, 15, 0) == 255 && level(stretch, 0, 15) == 0)
    // So narrow that either way would make a side of no pixel.
    let line = try Picture(width: 1000, height: 1, pixels: [UInt8](repeating: 9, count: 3000))
    #expect(line.fitted(width: 16, height: 16, .pad).width == 16)
    #expect(line.fitted(width: 16, height: 16, .crop).pixels.allSatisfy { $0 == 9 })
  }

  @Test func theToolReadsAndWritesThem() throws {
    let scratch = try Scratch()
    try smooth(50, 31).write(to: scratch.url("in.jpg"))
    let common = ["--device", "cpu", "--steps", "2", "--seed", "1"]
    for (name, magic) in [("a.jpg", "JPEG"), ("b.webp", "WEBP"), ("c.png", "PNG")] {
      let outcome = try Tool.generate(
        common + ["--image", "in.jpg", "--width", "64", "--height", "64", "--output", name],
        in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.errors == "langevin: warning: the image of 50x31 is cropped and resized to 64x64\n")
      let read = try Picture.read(scratch.url(name))
      #expect(
        read.picture.width == 64 && read.texts["parameters"]?.hasPrefix("grinning face") == true, "\(magic)")
    }
    // Without a size it is the image's, in whole latents.
    let outcome = try Tool.generate(
      common + ["--image", "in.jpg", "--image-fit", "pad", "--output", "d.png"], in: scratch.folder)
    #expect(outcome.errors.contains("is resized and padded to 48x24"), "\(outcome.errors)")
    #expect(try Picture.read(scratch.url("d.png")).picture.width == 48)
    try Tool.expectFailure(
      ["--image-fit", "crop"], status: 64, words: ["--image-fit needs --image"], in: scratch)
  }

  @Test func aSizeFarFromTheModelsIsWarnedOf() throws {
    let scratch = try Scratch()
    let common = ["--device", "cpu", "--steps", "1", "--seed", "1", "--output", "p.png"]
    let far = try Tool.generate(common + ["--width", "256", "--height", "256"], in: scratch.folder)
    #expect(far.errors.contains("warning: 256x256 is far from the 64x64"), "\(far.errors)")
    let near = try Tool.generate(common + ["--width", "80", "--height", "64"], in: scratch.folder)
    #expect(near.errors.isEmpty, "\(near.errors)")
  }
}

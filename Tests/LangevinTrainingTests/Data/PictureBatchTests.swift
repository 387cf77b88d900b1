import Foundation
import Synchronization
import Testing

@testable import Langevin

/// Counts how often a picture is decoded.
private final class CountingData: TrainingData {
  let whole: any TrainingData
  let decoded = Mutex(0)
  var pictures: [CaptionedPicture] { whole.pictures }

  init(_ whole: any TrainingData) { self.whole = whole }

  func picture(_ index: Int) throws -> Picture {
    decoded.withLock { $0 += 1 }
    return try whole.picture(index)
  }
}

@Suite struct PictureBatchTests {
  private func gradient(width: Int, height: Int) throws -> Picture {
    let pixels: [UInt8] = (0..<width * height).flatMap { [UInt8($0 % width), UInt8($0 / width), 77] }
    return try Picture(width: width, height: height, pixels: pixels)
  }

  @Test func theBatchHoldsTheChosenPicturesAndCaptions() throws {
    let data = SolidData(count: 10, captions: 3)
    let order = try SampleOrder(data, seed: 4, dropping: 0.3)
    let batches = try PictureBatches(data, order, Framing(width: 6, height: 4))
    let batch = try batches(20..<33)
    #expect(batch.samples == 20..<33 && batch.shape == [13, 4, 6, 3] && batch.pixels.count == 13 * 72)
    for (place, sample) in batch.samples.enumerated() {
      let choice = order.choice(sample)
      let expected = SolidData.colour(choice.index).map { Float($0) / 255 * 2 - 1 }
      let pixels = batch.pixels[place * 72..<(place + 1) * 72]
      #expect(pixels.enumerated().allSatisfy { $1 == expected[$0 % 3] })
      #expect(batch.captions[place] == choice.caption.map { "caption \($0) of \(choice.index)" })
      #expect(batch.views[place].index == choice.index)
    }
    #expect(batch.captions.contains(nil) && batch.pixels.allSatisfy { (-1...1).contains($0) })
  }

  @Test func howSamplesAreSplitIntoBatchesDoesNotMatter() throws {
    var data = SolidData(count: 7, captions: 2)
    (data.width, data.height) = (20, 12)
    var framing = Framing(width: 8, height: 8)
    (framing.isCropRandom, framing.padding) = (true, 2)
    let order = try SampleOrder(data, seed: 4, dropping: 0.3, isMirroring: true)
    let whole = try PictureBatches(data, order, framing)(0..<64)
    let parts = try PictureBatches(data, order, framing, cacheLimit: 0)
    let batches = try [48..<64, 0..<16, 16..<48].map { try parts($0) }.sorted {
      $0.samples.lowerBound < $1.samples.lowerBound
    }
    #expect(batches.flatMap(\.pixels) == whole.pixels)
    #expect(batches.flatMap(\.captions) == whole.captions && batches.flatMap(\.views) == whole.views)
  }

  @Test func pixelsAreThoseOfThePipelinesInitialPicture() throws {
    let data = try DataFolder()
    try gradient(width: 90, height: 50).write(to: data.url.appending(path: "a.png"))
    try data.write("a.txt", "a")
    let folder = try ImageFolder(data.url)
    for fit in ImageFit.allCases {
      var framing = Framing(width: 16, height: 24)
      framing.fit = fit
      let batch = try PictureBatches(folder, SampleOrder(folder, seed: 1), framing)(0..<1)
      let picture = try gradient(width: 90, height: 50).fitted(width: 16, height: 24, fit)
      #expect(batch.pixels == picture.pixels.map { Float($0) / 255 * 2 - 1 })
    }
  }

  @Test func aPaddedPictureHasNineViews() throws {
    let picture = try gradient(width: 10, height: 8)
    var framing = Framing(width: 10, height: 8)
    (framing.padding, framing.places) = (2, 3)
    var seen: [PictureView: Picture] = [:]
    let order = try SampleOrder(SolidData(count: 1), seed: 6)
    for sample in 0..<200 as Range<UInt64> {
      let view = framing.view(order.choice(sample))
      seen[view] = framing.framed(framing.sized(picture), view)
    }
    #expect(seen.count == 9)
    for (view, framed) in seen {
      let (left, top) = (Int(view.place.x * 4) - 2, Int(view.place.y * 4) - 2)
      for y in 0..<8 {
        for x in 0..<10 {
          let inside = (0..<10).contains(x + left) && (0..<8).contains(y + top)
          let expected: [UInt8] = inside ? [UInt8(x + left), UInt8(y + top), 77] : [255, 255, 255]
          #expect(Array(framed.pixels[(y * 10 + x) * 3..<(y * 10 + x) * 3 + 3]) == expected)
        }
      }
    }
  }

  @Test func withoutPlacesAPaddedPictureIsShiftedByAnyPixel() throws {
    let picture = try gradient(width: 10, height: 8)
    var framing = Framing(width: 10, height: 8)
    framing.padding = 2
    let order = try SampleOrder(SolidData(count: 1), seed: 6)
    var seen: [PictureView: Int] = [:]
    var corners: Set<[UInt8]> = []
    for sample in 0..<1000 as Range<UInt64> {
      let view = framing.view(order.choice(sample))
      seen[view, default: 0] += 1
      // What is in the middle names the shift.
      let framed = framing.framed(picture, view)
      corners.insert(Array(framed.pixels[(4 * 10 + 5) * 3..<(4 * 10 + 5) * 3 + 2]))
    }
    #expect(seen.count == 25 && corners.count == 25)
    #expect(seen.values.allSatisfy { (15...80).contains($0) })
  }

  @Test func aRandomCropReachesBothEdges() throws {
    let picture = try gradient(width: 40, height: 10)
    var framing = Framing(width: 10, height: 10)
    framing.isCropRandom = true
    let order = try SampleOrder(SolidData(count: 1), seed: 6)
    var lefts: [Int: Int] = [:]
    for sample in 0..<2000 as Range<UInt64> {
      let framed = framing.framed(framing.sized(picture), framing.view(order.choice(sample)))
      #expect((framed.width, framed.height) == (10, 10) && framed.pixels[1] == 0)
      lefts[Int(framed.pixels[0]), default: 0] += 1
    }
    #expect(lefts.keys.sorted() == Array(0...30))
    #expect(lefts.values.allSatisfy { (30...110).contains($0) })
    framing.places = 1
    #expect(framing.framed(picture, framing.view(order.choice(0))).pixels[0] == 15)
  }

  @Test func aMirroredPictureHasItsColumnsExchanged() throws {
    let picture = try gradient(width: 6, height: 4)
    let framing = Framing(width: 6, height: 4)
    let choice = SampleChoice(index: 0, caption: nil, isMirrored: true, crop: SIMD2(0.9, 0.2))
    let mirrored = framing.framed(picture, framing.view(choice))
    for y in 0..<4 {
      for x in 0..<6 {
        #expect(mirrored.pixels[(y * 6 + x) * 3] == UInt8(5 - x))
        #expect(mirrored.pixels[(y * 6 + x) * 3 + 1] == UInt8(y))
      }
    }
  }

  @Test func decodedPicturesAreKeptUpToTheLimit() throws {
    let framing = Framing(width: 8, height: 8)
    // Room for six of ten pictures of 192 bytes.
    for (limit, decoded) in [(1 << 20, 10), (6 * 192 + 191, 10 + 2 * 4), (0, 30)] {
      let data = CountingData(SolidData(count: 10))
      let batches = try PictureBatches(data, SampleOrder(data, seed: 1), framing, cacheLimit: limit)
      for epoch in 0..<3 as Range<UInt64> { _ = try batches(epoch * 10..<epoch * 10 + 10) }
      #expect(data.decoded.withLock { $0 } == decoded)
    }
  }

  @Test func aCacheKeepsWithinItsBytes() throws {
    struct Fault: Error {}
    let cache = BoundedCache<String, [Int]>(limit: 10)
    func value(_ key: String, _ value: [Int]) -> [Int] {
      cache.value(for: key, byteCount: \.count) { value }
    }
    #expect(value("a", [1, 2, 3]) == [1, 2, 3] && value("a", [9]) == [1, 2, 3])
    #expect(value("b", Array(0..<8)).count == 8 && value("b", [7]) == [7])
    #expect(cache.byteCount == 4 && cache.count == 2)
    #expect(throws: Fault.self) { try cache.value(for: "c", byteCount: \.count) { throw Fault() } }
    #expect(value("c", [1]) == [1])
  }

  @Test func theFirstBrokenPictureOfABatchIsNamed() throws {
    let folder = try DataFolder()
    for name in ["a", "b", "c"] {
      try folder.picture("\(name).png")
      try folder.write("\(name).txt", name)
    }
    try folder.write("b.png", "broken")
    let data = try ImageFolder(folder.url)
    let batches = try PictureBatches(data, SampleOrder(data, seed: 1), Framing(width: 8, height: 8))
    #expect(throws: ImageError.malformed(path: folder.path("b.png"), reason: "not a PNG, JPEG or WebP file"))
    {
      try batches(0..<3)
    }
  }

  @Test func settingsThatNoPictureCanHaveAreRefused() throws {
    let data = SolidData(count: 1)
    let order = try SampleOrder(data, seed: 1)
    let changes: [(inout Framing) -> Void] = [
      { $0.width = 0 }, { $0.height = 20_000 }, { $0.padding = -1 }, { $0.places = 0 },
      {
        $0.isCropRandom = true
        $0.fit = .stretch
      },
    ]
    for change in changes {
      var framing = Framing(width: 8, height: 8)
      change(&framing)
      #expect(throws: DataError.self) { try PictureBatches(data, order, framing) }
    }
  }
}

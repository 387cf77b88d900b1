import Foundation
import Testing

@testable import Langevin

@Suite struct ImageFolderTests {
  @Test func metadataGivesCaptionsInEveryForm() throws {
    let folder = try DataFolder()
    try folder.picture("b.png", [255, 0, 0])
    try folder.picture("a.jpg", [0, 0, 255])
    try folder.picture("more/c.webp", [0, 128, 0])
    try folder.picture("d.JPEG", [9, 9, 9])
    try folder.write(
      "metadata.jsonl",
      #"{"file_name": "b.png", "text": "a red square"}"# + "\n"
        + #"{"text": ["blue", "a \u0022blue\u0022 one"], "file_name": "./a.jpg", "weight": 2.5}"# + "\r\n"
        + #"{"file_name": "more//c.webp", "text": [{"text": "green", "weight": 3}, {"text": "leaf"}, "moss"]}"#
        + "\n\n" + #"{"file_name": "d.JPEG", "text": "dark"}"#)
    let data = try ImageFolder(folder.url)
    #expect(data.pictures.map(\.name) == ["b.png", "a.jpg", "more/c.webp", "d.JPEG"])
    #expect(data.pictures.map(\.weight) == [1, 2.5, 1, 1])
    #expect(
      data.pictures.map(\.captions) == [
        [Caption("a red square")], [Caption("blue"), Caption("a \"blue\" one")],
        [Caption("green", weight: 3), Caption("leaf"), Caption("moss")], [Caption("dark")],
      ])
    #expect(data.pictures[0].byteCount > 60)
    #expect(try data.picture(0).pixels.prefix(3) == [255, 0, 0])
    #expect(isAbout(try data.picture(1), [0, 0, 255]))
    #expect(isAbout(try data.picture(2), [0, 128, 0]))
    #expect(isAbout(try data.picture(3), [9, 9, 9]))
    #expect(try data.brokenPictures().isEmpty)
  }

  @Test func textFilesBesideThePicturesGiveOneCaptionALine() throws {
    let folder = try DataFolder()
    try folder.picture("z.png")
    try folder.picture("in/a.b.webp")
    try folder.write("z.txt", "\u{FEFF}first \r\n\r\n  second\n")
    try folder.write("in/a.b.txt", "écru")
    try folder.write(".hidden.txt", "nobody reads this")
    try folder.write("README.md", "nor this")
    let data = try ImageFolder(folder.url)
    #expect(data.pictures.map(\.name) == ["in/a.b.webp", "z.png"])
    #expect(data.pictures.map { $0.captions.map(\.text) } == [["écru"], ["first", "second"]])
  }

  @Test func picturesAloneAreEnoughForATaskWithoutCaptions() throws {
    let folder = try DataFolder()
    for name in ["b.png", "a.png"] { try folder.picture(name) }
    #expect(
      folder.line(folder.error()) == "DATA: 2 of 2 pictures have no caption; the first is a.png")
    var options = CaptionOptions()
    options.areNeeded = false
    #expect(try ImageFolder(folder.url, options).pictures.map(\.name) == ["a.png", "b.png"])
    try folder.write("metadata.jsonl", #"{"file_name": "b.png", "weight": 3}"#)
    let weighted = try ImageFolder(folder.url, options)
    #expect(weighted.pictures.map(\.name) == ["b.png", "a.png"])
    #expect(weighted.pictures.map(\.weight) == [3, 1])
  }

  @Test func picturesWithoutCaptionAreCounted() throws {
    let folder = try DataFolder()
    for name in ["a.png", "b.png", "c.png", "d.png", "e.gif"] { try folder.write(name, "?") }
    try folder.write(
      "metadata.jsonl",
      """
      {"file_name": "c.png", "text": "c"}
      {"file_name": "b.png", "text": " "}
      {"file_name": "a.png", "text": null}
      """)
    #expect(folder.line(folder.error()) == "DATA: 4 of 5 pictures have no caption; the first is b.png")
    let beside = try DataFolder()
    for name in ["a", "b"] { try beside.picture("\(name).png") }
    try beside.write("a.txt", "a")
    try beside.write("b.txt", " \n")
    #expect(beside.line(beside.error()) == "DATA: 1 of 2 pictures has no caption; it is b.png")
  }

  @Test func captionsWithoutPictureAreCounted() throws {
    let folder = try DataFolder()
    try folder.picture("a.png")
    try folder.write(
      "metadata.jsonl",
      """
      {"file_name": "a.png", "text": "a"}
      {"file_name": "b.png", "text": "b"}
      {"file_name": "c.png", "text": "c"}
      """)
    #expect(
      folder.line(folder.error())
        == "DATA/metadata.jsonl, line 2: its picture b.png is not there, and 1 more are missing")
    let beside = try DataFolder()
    try beside.picture("a.png")
    try beside.write("a.txt", "a")
    try beside.write("b.txt", "b")
    #expect(
      beside.line(beside.error()) == "DATA/b.txt: its picture b.png, .jpg or .webp is not there")
  }

  @Test func noPictureHasTwoEntries() throws {
    let folder = try DataFolder()
    try folder.picture("a.png")
    try folder.write(
      "metadata.jsonl",
      #"{"file_name": "a.png", "text": "a"}"# + "\n" + #"{"file_name": "./a.png", "text": "b"}"#)
    #expect(
      folder.line(folder.error()) == "DATA/metadata.jsonl, line 2: a.png comes twice; line 1 has it too")
    let beside = try DataFolder()
    for name in ["a.png", "a.jpg"] { try beside.picture(name) }
    try beside.write("a.txt", "a")
    #expect(beside.line(beside.error()) == "DATA/a.png: a.txt comes twice; a.jpg has it too")
    try beside.write("metadata.jsonl", "")
    #expect(
      beside.line(beside.error())
        == "DATA/a.txt: captions both in text files and in metadata.jsonl; keep one of the two")
  }

  @Test(arguments: [
    (#"{"file_name": "a.png", "text": "a""#, "no valid JSON: ',' or '}' is expected at byte 34"),
    (
      #"{"file_name": "a.png", "text": "a"} x"#,
      "no valid JSON: text after the end of the JSON document at byte 36"
    ),
    (#"{"file_name": "a.png", "text": "a", "text": "b"}"#, "the key 'text' appears twice"),
    (#"["a.png", "a"]"#, #"a JSON object is expected, got ["a.png","a"]"#),
    (#"{"text": "a"}"#, "it has no text 'file_name'"),
    (#"{"file_name": 7, "text": "a"}"#, "it has no text 'file_name'"),
    (#"{"file_name": "a.png", "text": 7}"#, "'text' must be a text or a list of texts, got 7"),
    (#"{"file_name": "a.png", "text": [7]}"#, "in the list 'text': a text or an object is expected, got 7"),
    (#"{"file_name": "a.png", "text": ["a", ""]}"#, "in the list 'text': a blank caption"),
    (
      #"{"file_name": "a.png", "text": [{"weight": 1}]}"#,
      #"in the list 'text': a caption without a 'text': {"weight":1}"#
    ),
    (
      #"{"file_name": "a.png", "text": [{"text": "a", "wieght": 1}]}"#,
      "in the list 'text': a caption has a text and a weight, and no 'wieght'"
    ),
    (
      #"{"file_name": "a.png", "text": [{"text": "a", "weight": 0}]}"#,
      "the weight of a caption must be a number from 1e-6 to 1e6, got 0"
    ),
    (
      #"{"file_name": "a.png", "text": "a", "weight": "2"}"#,
      #"'weight' must be a number from 1e-6 to 1e6, got "2""#
    ),
    (
      #"{"file_name": "a.png", "text": "a", "weight": -1}"#,
      "'weight' must be a number from 1e-6 to 1e6, got -1"
    ),
    (
      #"{"file_name": "a.png", "text": "a", "weight": 1e999}"#,
      "'weight' must be a number from 1e-6 to 1e6, got 1e999"
    ),
    (
      #"{"file_name": "a.png", "text": "a", "label": 3, "url": ""}"#,
      "nothing reads 'label', 'url'; name the captions' column, and the others are passed over"
    ),
    (
      #"{"file_name": "../a.png", "text": "a"}"#,
      "'../a.png' is no path within the data's folder, which may have no '..' and not begin with '/'"
    ),
    (
      #"{"file_name": "/a.png", "text": "a"}"#,
      "'/a.png' is no path within the data's folder, which may have no '..' and not begin with '/'"
    ),
    (
      #"{"file_name": "b/../../a.png", "text": "a"}"#,
      "'b/../../a.png' is no path within the data's folder, which may have no '..' and not begin with '/'"
    ),
    (
      #"{"file_name": "a.png\u0000.txt", "text": "a"}"#,
      #"'a.png\u0000.txt' is no path within the data's folder, which may have no '..' and not begin with '/'"#
    ),
    (
      #"{"file_name": "./", "text": "a"}"#,
      "'./' is no path within the data's folder, which may have no '..' and not begin with '/'"
    ),
  ])
  func aBadLineIsNamed(_ line: String, _ reason: String) throws {
    let folder = try DataFolder()
    try folder.picture("a.png")
    try folder.write("metadata.jsonl", "\n" + line + "\n")
    #expect(folder.line(folder.error()) == "DATA/metadata.jsonl, line 2: \(reason)")
  }

  @Test func aColumnThatIsNamedHidesTheOthers() throws {
    let folder = try DataFolder()
    try folder.picture("a.png")
    try folder.write(
      "metadata.jsonl",
      #"{"file_name": "a.png", "text": "wrong", "prompt": ["right"], "label": {"x": 1}, "weight": 2}"#)
    var options = CaptionOptions()
    options.column = "prompt"
    let data = try ImageFolder(folder.url, options)
    #expect(data.pictures[0].captions == [Caption("right")] && data.pictures[0].weight == 2)
    options.column = "promt"
    #expect(folder.line(folder.error(options)) == "DATA: 1 of 1 picture has no caption; it is a.png")
  }

  @Test func aFolderWithoutPicturesSaysSo() throws {
    let folder = try DataFolder()
    #expect(folder.line(folder.error()) == "DATA: holds no picture (PNG, JPEG or WebP)")
    try folder.write("metadata.jsonl", "\n")
    #expect(folder.line(folder.error()) == "DATA: holds no picture (PNG, JPEG or WebP)")
    #expect(throws: DataError.missing(path: folder.path("no"))) {
      try ImageFolder(folder.url.appending(path: "no"))
    }
    #expect(throws: DataError.unreadable(path: folder.path("metadata.jsonl"), reason: "Not a directory")) {
      try ImageFolder(folder.url.appending(path: "metadata.jsonl"))
    }
  }

  @Test func whatWouldBePassedOverIsRefused() throws {
    let folder = try DataFolder()
    for name in ["a.png", "b.gif", "c.tiff"] { try folder.write(name, "?") }
    try folder.write("a.txt", "a")
    #expect(
      folder.line(folder.error())
        == "DATA: 2 pictures cannot be read, beginning with b.gif: convert to PNG, JPEG or WebP")
    try folder.write("metadata.csv", "file_name,text")
    #expect(
      folder.line(folder.error())
        == "DATA/metadata.csv: captions are read from metadata.jsonl and from text files only")
    let nested = try DataFolder()
    try nested.picture("train/a.png")
    try nested.write("train/metadata.jsonl", #"{"file_name": "a.png", "text": "a"}"#)
    #expect(
      nested.line(nested.error())
        == "DATA/train/metadata.jsonl: the captions of a folder within are not read; give DATA/train as the data"
    )
    #expect(try ImageFolder(nested.url.appending(path: "train")).pictures.count == 1)
    let text = try DataFolder()
    try text.picture("a.png")
    try text.write("a.txt", [0xFF, 0xFE, 0x61, 0x00])
    #expect(text.line(text.error()) == "DATA/a.txt: it is not UTF-8")
  }

  @Test func linksAreFollowedButNotInCircles() throws {
    let (folder, elsewhere) = (try DataFolder(), try DataFolder())
    try elsewhere.picture("a.png", [1, 2, 3])
    try elsewhere.write("a.txt", "a")
    let manager = FileManager.default
    try manager.createSymbolicLink(
      atPath: folder.path("linked"), withDestinationPath: elsewhere.url.path)
    let data = try ImageFolder(folder.url)
    #expect(data.pictures.map(\.name) == ["linked/a.png"])
    #expect(try data.picture(0).pixels.prefix(3) == [1, 2, 3])
    try manager.createSymbolicLink(atPath: folder.path("round"), withDestinationPath: folder.url.path)
    #expect(folder.line(folder.error()) == "DATA/round: it is a link to a folder that holds it")
  }

  @Test func brokenPicturesAreNamedOrCounted() throws {
    let folder = try DataFolder()
    for name in ["a", "b", "c", "d"] {
      try folder.picture("\(name).png")
      try folder.write("\(name).txt", name)
    }
    let whole = try Data(contentsOf: folder.url.appending(path: "c.png"))
    try folder.write("c.png", Array(whole.prefix(whole.count / 2)))
    try folder.write("b.png", "<html>404</html>")
    let data = try ImageFolder(folder.url)
    let error = #expect(throws: DataError.self) { try data.checked(skippingBroken: false) }
    #expect(
      folder.line(error)
        == "2 of 4 pictures are broken; the first is DATA/b.png: not a PNG, JPEG or WebP file")
    let (rest, broken) = try data.checked(skippingBroken: true)
    #expect(
      broken.map(\.index) == [1, 2] && broken[1].reason.contains("c.png: not a PNG file that can be read"))
    #expect(rest.pictures.map(\.name) == ["a.png", "d.png"] && rest.pictures[1].captions == [Caption("d")])
    #expect(try rest.picture(1) == data.picture(3))
    #expect(rest.hash != data.hash)
    #expect(throws: ImageError.self) { try data.picture(1) }
    for name in ["a", "d"] { try folder.write("\(name).png", "") }
    #expect(throws: DataError.self) { try data.checked(skippingBroken: true) }
  }

  @Test func aHealthySetPassesItsCheckWhole() throws {
    struct Stop: Error {}
    let data = SolidData(count: 100)
    var told: [Int] = []
    let (same, broken) = try data.checked(skippingBroken: true) { done, total in
      #expect(total == 100)
      told.append(done)
    }
    #expect(broken.isEmpty && same.pictures == data.pictures && told.last == 100 && told == told.sorted())
    #expect(throws: Stop.self) { try data.checked(skippingBroken: true) { _, _ in throw Stop() } }
  }

  @Test func theHashTellsChangedDataAndNotTheirPlace() throws {
    let (one, two) = (try DataFolder(), try DataFolder())
    for folder in [one, two] {
      for name in ["a", "b"] {
        try folder.picture("\(name).png")
        try folder.write("\(name).txt", "\(name)\nsecond")
      }
    }
    let hash = try ImageFolder(one.url).hash
    #expect(try ImageFolder(two.url).hash == hash)
    try two.write("a.txt", "a second\n")
    #expect(try ImageFolder(two.url).hash != hash)
    var changed = SolidData(count: 3)
    let start = changed.hash
    let changes: [(inout CaptionedPicture) -> Void] = [
      { $0.name += "x" }, { $0.byteCount += 1 }, { $0.weight = 2 }, { $0.captions[0].text += "." },
      { $0.captions[0].weight = 2 }, { $0.captions = [] },
    ]
    for change in changes {
      changed = SolidData(count: 3)
      change(&changed.pictures[1])
      #expect(changed.hash != start)
    }
    changed = SolidData(count: 3)
    changed.pictures.swapAt(0, 1)
    #expect(changed.hash != start)
  }
}

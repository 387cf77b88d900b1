import Foundation
import LangevinTestSupport
import Testing

@testable import Langevin

@Suite struct WebDatasetTests {
  /// Fixtures/webdataset, by Tests/Golden/make_webdataset.py.
  static let fixtures = Fixtures.url.appending(path: "webdataset")

  @Test(arguments: ["ustar", "gnu", "pax"])
  func pythonsTarFilesAreRead(_ format: String) throws {
    let data = try WebDataset([Self.fixtures.appending(path: "\(format).tar")])
    let deep = "train/" + String(repeating: "a-folder-with-a-long-name/", count: 5)
    let more = format == "ustar" ? [] : [String(repeating: "x", count: 120) + "é.jpeg"]
    #expect(
      data.pictures.map(\.name)
        == (["0001.png", "part/0002.jpg", deep + "0003.webp"] + more).map { "\(format).tar/\($0)" })
    #expect(
      data.pictures.map(\.captions)
        == [
          [Caption("a red square"), Caption("red")], [Caption("blue"), Caption("sea", weight: 2)],
          [Caption("grün")],
        ] + more.map { _ in [Caption("dunkel ☾")] })
    #expect(data.pictures.map(\.weight) == [1, 1, 0.5] + more.map { _ in 1 })
    let colours: [[UInt8]] = [[255, 0, 0], [0, 0, 255], [0, 128, 0], [9, 9, 9]]
    for index in data.pictures.indices {
      let picture = try data.picture(index)
      #expect(picture.width == 6 && picture.height == 4 && isAbout(picture, colours[index]))
    }
    #expect(try data.brokenPictures().isEmpty)
  }

  /// The data of one tar file, which is mapped and so outlives its name.
  private func opened(_ bytes: [UInt8]) throws -> WebDataset {
    let folder = try DataFolder()
    try folder.write("a.tar", bytes)
    return try WebDataset([folder.url.appending(path: "a.tar")])
  }

  /// The line of the error with which a tar file is refused.
  private func opening(_ bytes: [UInt8], _ options: CaptionOptions = CaptionOptions()) throws -> String {
    let folder = try DataFolder()
    try folder.write("a.tar", bytes)
    do {
      _ = try WebDataset([folder.url.appending(path: "a.tar")], options)
      return "no error"
    } catch let error as DataError {
      return folder.line(error).replacingOccurrences(of: "DATA/", with: "")
    }
  }

  private func png(_ colour: [UInt8] = [1, 2, 3]) throws -> [UInt8] {
    let folder = try DataFolder()
    try folder.picture("a.png", colour)
    return [UInt8](try Data(contentsOf: folder.url.appending(path: "a.png")))
  }

  @Test func membersOfAKeyMayLieApart() throws {
    var tar = TarWriter()
    tar.add("b.txt", Array("b".utf8))
    tar.add("a.png", try png([5, 5, 5]))
    tar.add("b.PNG", try png([6, 6, 6]))
    tar.add("a.txt", Array("a".utf8))
    tar.add("._junk.png", [1])
    let data = try opened(tar.finished())
    #expect(data.pictures.map(\.captions) == [[Caption("b")], [Caption("a")]])
    #expect(try data.picture(0).pixels[0] == 6)
    #expect(try data.picture(1).pixels[0] == 5)
  }

  @Test func otherFormsOfHeadersAreRead() throws {
    let picture = try png()
    var tar = TarWriter()
    // The form of 1979, with a folder that is a file by its kind; and a size in binary, as GNU writes large
    // ones.
    tar.add("old/", kind: "\0", magic: "")
    tar.add("old/a.png", picture, kind: "\0", magic: "")
    tar.add("old/a.txt", Array("a".utf8), magic: "ustar  \0", prefix: "no prefix in GNU's form")
    let size: [UInt8] =
      [0x80] + [UInt8](repeating: 0, count: 9) + [UInt8(picture.count >> 8), UInt8(picture.count & 255)]
    tar.add("b.png", picture, size: size, prefix: "deep")
    tar.add("GNU", Array("deep/b.txt\0".utf8), kind: "L")
    tar.add("cut", Array("b".utf8))
    tar.add("pax", Array("19 path=deep/c.png\n".utf8), kind: "x")
    tar.add("cut", picture)
    let attribute = Array("26 SCHILY.xattr.user.a=".utf8) + [0xFF, 0, 0x0A]
    tar.add("pax", attribute + Array("19 path=deep/c.txt\n9 size=1\n".utf8), kind: "x")
    tar.add("cut", Array("c".utf8), size: Array("00000000000".utf8))
    let data = try opened(tar.finished())
    #expect(data.pictures.map(\.name) == ["a.tar/old/a.png", "a.tar/deep/b.png", "a.tar/deep/c.png"])
    #expect(data.pictures.map { $0.captions.map(\.text) } == [["a"], ["b"], ["c"]])
    #expect(try data.brokenPictures().isEmpty)
  }

  @Test func anArchiveThatBreaksOffSaysWhere() throws {
    var tar = TarWriter()
    tar.add("a.png", try png())
    tar.add("a.txt", [UInt8](repeating: 0x61, count: 600))
    let whole = tar.finished()
    #expect(try opening(whole) == "no error")
    let end = tar.bytes.count
    #expect(
      try opening(Array(whole[..<end]))
        == "a.tar: truncated: its \(end) bytes end before the archive's end mark; download it again")
    #expect(
      try opening(Array(whole[..<(end - 400)]))
        == "a.tar: truncated: its \(end - 400) bytes end in a.txt, which has 600 bytes from byte 1536 on; "
        + "download it again")
    #expect(
      try opening(Array(whole[..<1100]))
        == "a.tar: truncated: its 1100 bytes end in the header at byte 1024; download it again")
    // Wherever it breaks off, nothing that is read is wrong.
    for count in stride(from: 0, to: end, by: 37) {
      #expect(try opening(Array(whole[..<count])).hasPrefix("a.tar: truncated: its \(count) bytes end"))
    }
  }

  @Test func aDamagedHeaderIsNamed() throws {
    var tar = TarWriter()
    tar.add("a.png", try png())
    tar.add("a.txt", Array("a".utf8))
    var bytes = tar.finished()
    bytes[1024 + 1] ^= 1
    #expect(
      try opening(bytes) == "a.tar: damaged: the header at byte 1024 has a wrong checksum; download it again")
    #expect(
      try opening(Array("<html>".utf8) + [UInt8](repeating: 0x20, count: 2000))
        == "a.tar: damaged: the header at byte 0 has a wrong checksum; download it again")
    #expect(try opening([0x1F, 0x8B, 8, 0]) == "a.tar: it is compressed; unpack it to a plain .tar")
  }

  @Test(arguments: [
    ("link.png", "", Character("2"), "a.tar: link.png: it is neither a file nor a folder (kind '2')"),
    ("pax", "12 path=a\n", "x", "a.tar: a malformed extended header before byte 1024"),
    ("pax", "9999999999999999999 path=a\n", "x", "a.tar: a malformed extended header before byte 1024"),
    ("pax", "x path=a\n", "x", "a.tar: a malformed extended header before byte 1024"),
    ("pax", "2 \n", "x", "a.tar: a malformed extended header before byte 1024"),
    ("pax", "12 size=-17\n", "x", "a.tar: a size of '-17' bytes"),
    ("pax", "10 path=a\n", "g", "a.tar: a name or a size for all files"),
    ("pax", "22 GNU.sparse.major=1\n", "x", "a.tar: it holds a sparse file; write it without --sparse"),
    ("", "a", "0", "a.tar: the header at byte 0 has no readable name and size"),
  ])
  func whatIsNoPlainArchiveIsRefused(
    _ name: String, _ contents: String, _ kind: Character, _ line: String
  ) throws {
    var tar = TarWriter()
    tar.add(name, Array(contents.utf8), kind: kind)
    tar.add("a.png", try png())
    #expect(try opening(tar.finished()) == line)
  }

  @Test func sizesThatNoFileHasAreRefused() throws {
    for size: [UInt8] in [
      Array("77777777777".utf8), [0x80] + [UInt8](repeating: 0xFF, count: 11),
      [0xFF] + [UInt8](repeating: 0xFF, count: 11),
      Array("0000000008x".utf8), [0x80, 0, 0, 0, 0x7F] + [UInt8](repeating: 0xFF, count: 7),
    ] {
      var tar = TarWriter()
      tar.add("a.png", [1, 2, 3], size: size)
      let line = try opening(tar.finished())
      #expect(line.contains("truncated") || line.contains("no readable name and size"))
    }
  }

  @Test func joinedArchivesAreNotReadByHalf() throws {
    var tar = TarWriter()
    tar.add("a.png", try png())
    tar.add("a.txt", Array("a".utf8))
    #expect(
      try opening(tar.finished() + tar.finished())
        == "a.tar: it goes on after its end mark at byte \(tar.bytes.count); give joined archives apart")
  }

  @Test func samplesThatAreNotWholeAreRefused() throws {
    func line(_ names: [String], _ text: String = "x", column: String? = nil) throws -> String {
      var tar = TarWriter()
      for name in names { tar.add(name, name.hasSuffix("png") ? try png() : Array(text.utf8)) }
      var options = CaptionOptions()
      options.column = column
      return try opening(tar.finished(), options)
    }
    #expect(try line([]) == "a.tar: holds no picture (PNG, JPEG or WebP)")
    #expect(
      try line(["1.png", "2.png", "3.png", "1.txt"])
        == "a.tar: 2 of 3 pictures have no caption; the first is a.tar/2.png")
    #expect(
      try line(["1.png", "1.txt", "2.txt", "3.txt"])
        == "a.tar: 2.txt: its picture 2.png, .jpg or .webp is not there, and 1 more are missing")
    #expect(
      try line(["1.png", "1.txt", "1.txt"]) == "a.tar: 1.txt: 1 comes twice; 1.txt has it too")
    #expect(
      try line(["1.png", "1.jpg", "1.txt"]) == "a.tar: 1.jpg: 1 comes twice; 1.png has it too")
    #expect(
      try line(["1.png", "1.txt", "1.cls", "1.seg.png"])
        == "a.tar: nothing reads '1.cls', '1.seg.png'; name the captions' column, and the others are passed over"
    )
    #expect(try line(["1.png", "1.txt", "1.cls", "1.seg.png"], column: "txt") == "no error")
    #expect(
      try line(["1.png", "1.txt", "1.json"])
        == "a.tar: 1.txt: captions both here and in 1.json; name the column: txt, or a key of the JSON")
    #expect(try line(["1.png", "1.txt", "1.json"], #"{"prompt": "y"}"#, column: "prompt") == "no error")
    #expect(
      try line(["1.png", "1.json"], #"{"caption": "y", "text": "z"}"#)
        == "a.tar: 1.json: captions in both 'text' and 'caption'; name the one to read")
    #expect(
      try line(["1.png", "1.json"], #"{"caption": "y", "width": 8}"#)
        == "a.tar: 1.json: nothing reads 'width'; name the captions' column, and the others are passed over")
    #expect(
      try line(["1.png", "1.json"], "{") == "a.tar: 1.json: no valid JSON: a key is expected at byte 1")
  }

  @Test func aFolderIsOpenedByWhatItHolds() throws {
    let folder = try DataFolder()
    var tar = TarWriter()
    tar.add("a.png", try png())
    tar.add("a.txt", Array("a".utf8))
    try folder.write("2.tar", tar.finished())
    try folder.write("1.tar", tar.finished())
    let names = ["1.tar/a.png", "2.tar/a.png"]
    #expect(try TrainingFiles.open([folder.url]).pictures.map(\.name) == names)
    let urls = [2, 1].map { folder.url.appending(path: "\($0).tar") }
    #expect(try WebDataset(urls).pictures.map(\.name) == names.reversed())
    #expect(try TrainingFiles.open(urls).pictures.map(\.name) == names.reversed())
    try folder.picture("b.png")
    let error = #expect(throws: DataError.self) { try TrainingFiles.open([folder.url]) }
    #expect(folder.line(error) == "DATA: it holds both pictures and tar files; give one of the two")
    #expect(throws: DataError.missing(path: folder.path("no"))) {
      try TrainingFiles.open([folder.url.appending(path: "no")])
    }
    let plain = try DataFolder()
    try plain.picture("a.png")
    try plain.write("a.txt", "a")
    #expect(try TrainingFiles.open([plain.url]).pictures.map(\.name) == ["a.png"])
    #expect(throws: DataError.self) { try TrainingFiles.open([]) }
  }

  @Test func severalFoldersAndTarFilesAreJoined() throws {
    let folders = try (0..<3).map { _ in try DataFolder() }
    for (index, folder) in folders.enumerated() {
      for name in ["a", "b"].prefix(index == 1 ? 1 : 2) {
        try folder.picture("\(name).png", [UInt8(index), name == "a" ? 10 : 20, 0])
        try folder.write("\(name).txt", "\(name) of \(index)")
      }
    }
    var tar = TarWriter()
    tar.add("c.png", try png([3, 3, 3]))
    tar.add("c.txt", Array("c".utf8))
    try folders[0].write(".hidden/c.tar", tar.finished())
    let archive = folders[0].url.appending(path: ".hidden/c.tar")
    let data = try TrainingFiles.open([folders[0].url, folders[1].url, archive, folders[2].url])
    #expect(
      data.pictures.map { $0.captions[0].text }
        == ["a of 0", "b of 0", "a of 1", "c", "a of 2", "b of 2"])
    #expect(
      try data.pictures.indices.map { try data.picture($0).pixels.prefix(2).map(Int.init) }
        == [[0, 10], [0, 20], [1, 10], [3, 3], [2, 10], [2, 20]])
  }

  @Test func aBrokenMemberIsNamedWithItsArchive() throws {
    var tar = TarWriter()
    tar.add("a.png", [1, 2, 3])
    tar.add("a.txt", Array("a".utf8))
    let data = try opened(tar.finished())
    let error = #expect(throws: DataError.self) { try data.checked(skippingBroken: false) }
    #expect(error?.description.hasSuffix("a.tar/a.png: not a PNG, JPEG or WebP file") == true)
  }
}

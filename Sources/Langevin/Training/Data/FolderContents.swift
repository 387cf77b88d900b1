import Foundation

/// The files of a folder and of the folders within it.
struct FolderContents {
  /// The folder.
  let root: String
  /// The size of each file by its path from the folder.
  private(set) var sizes: [String: Int] = [:]
  /// All paths, sorted.
  private(set) var names: [String] = []
  /// The paths of what should be pictures by the ending of their names, sorted.
  private(set) var pictures: [String] = []

  /// Follows symbolic links, other than those that lead back to a folder that holds them. Names that begin
  /// with a dot are passed over.
  ///
  /// Throws `DataError.missing`, `.unreadable`, and `.malformed` for such a link.
  init(_ root: String) throws {
    self.root = root
    try list("", above: [])
    names = sizes.keys.sorted()
    pictures = names.filter { Self.isRead($0) || Self.otherFormats.contains(Self.ending($0)) }
  }

  /// The path of a file for the system and for messages.
  func path(_ name: String) -> String { (root as NSString).appendingPathComponent(name) }

  /// The size of a regular file; also of one whose name begins with a dot. Nil where there is none.
  func size(_ name: String) -> Int? {
    if let size = sizes[name] { return size }
    var status = stat()
    guard stat(path(name), &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return Int(status.st_size)
  }

  /// Whether the name promises a picture that can be read.
  static func isRead(_ name: String) -> Bool { PictureFormat(URL(fileURLWithPath: name)) != nil }

  private static func ending(_ name: String) -> String { (name as NSString).pathExtension.lowercased() }

  /// Endings of pictures that no reader here knows.
  private static let otherFormats: Set<String> = [
    "avif", "bmp", "gif", "heic", "heif", "jp2", "jxl", "ppm", "svg", "tga", "tif", "tiff",
  ]

  private struct Identity: Hashable {
    let device: UInt64
    let file: UInt64
  }

  private mutating func list(_ folder: String, above: Set<Identity>) throws {
    let path = folder.isEmpty ? root : self.path(folder)
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw errno == ENOENT
        ? DataError.missing(path: path)
        : DataError.unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    let identity = Identity(device: UInt64(status.st_dev), file: UInt64(status.st_ino))
    guard !above.contains(identity) else {
      throw DataError.malformed(DataPlace(path), reason: "it is a link to a folder that holds it")
    }
    guard let directory = opendir(path) else {
      throw DataError.unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    defer { closedir(directory) }
    var found: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(validatingCString: $0) }
      }
      guard let name else {
        throw DataError.malformed(DataPlace(path), reason: "it holds a file whose name is not UTF-8")
      }
      if !name.hasPrefix(".") { found.append(folder.isEmpty ? name : "\(folder)/\(name)") }
    }
    for name in found {
      var status = stat()
      guard stat(self.path(name), &status) == 0 else {
        throw DataError.unreadable(path: self.path(name), reason: String(cString: strerror(errno)))
      }
      switch status.st_mode & S_IFMT {
      case S_IFDIR: try list(name, above: above.union([identity]))
      case S_IFREG: sizes[name] = Int(status.st_size)
      default: break
      }
    }
  }
}

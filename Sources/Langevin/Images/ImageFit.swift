/// How a picture to start from becomes one of another size.
public enum ImageFit: String, Sendable, CaseIterable {
  /// The middle of it that has the wanted proportions.
  case crop
  /// All of it, with black at two sides.
  case pad
  /// All of it, its proportions changed.
  case stretch
}

extension Picture {
  /// This picture in another size.
  public func fitted(width: Int, height: Int, _ fit: ImageFit) -> Picture {
    /// `side * a / b`, rounded, within the side.
    func part(_ side: Int, _ a: Int, _ b: Int) -> Int {
      max(1, min(side, Int((Double(side) * Double(a) / Double(b)).rounded())))
    }
    // Whether it is wider than what is wanted.
    let isWide = self.width * height > width * self.height
    switch fit {
    case .stretch: return resized(width: width, height: height)
    case .crop:
      let (w, h) =
        isWide
        ? (part(self.width, width * self.height, height * self.width), self.height)
        : (self.width, part(self.height, height * self.width, width * self.height))
      return croppedToCentre(width: w, height: h).resized(width: width, height: height)
    case .pad:
      let (w, h) =
        isWide
        ? (width, part(height, width * self.height, height * self.width))
        : (part(width, height * self.width, width * self.height), height)
      return resized(width: w, height: h).croppedToCentre(width: width, height: height)
    }
  }
}

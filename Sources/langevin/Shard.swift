import ArgumentParser
import Langevin

/// `K/M`: part K, from 0, of a run that is cut into M parts of about the same size.
struct Shard {
  let number, count: Int

  /// Throws a line with what is wanted.
  init(_ text: String) throws {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let number = Int(parts[0]), let count = Int(parts[1]), count > 0 else {
      throw ValidationError(
        "It is K/M, part K of M, where K is from 0 to M - 1: of a Slurm array "
          + "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
    }
    guard (0..<count).contains(number) else {
      throw ValidationError(
        "Parts are numbered from 0: of \(count) they are 0 to \(count - 1), and there is no part \(number); a Slurm "
          + "array begins at 0, as with --array=0-\(count - 1)")
    }
    (self.number, self.count) = (number, count)
  }

  /// Which of a run's batches it draws. Batches stay whole, so that each picture is computed beside the same others.
  func part<Batch>(of batches: [Batch]) -> ArraySlice<Batch> {
    func bound(_ number: Int) -> Int {
      let (each, rest) = batches.count.quotientAndRemainder(dividingBy: count)
      return number * each + min(number, rest)
    }
    return batches[bound(number)..<bound(number + 1)]
  }
}

extension GenerationRequest {
  /// Requests that draw these images of this one, which are whole batches. Each request's images are neighbours, and
  /// `first` is the number of its first one in this request.
  func parts(drawing batches: [Range<Int>]) -> [(first: Int, request: GenerationRequest)] {
    if batches.reduce(0, { $0 + $1.count }) == imageCount { return [(0, self)] }
    // What a prompt became is kept for each image: so many at most.
    let most = max(256 / batch, 1) * batch
    var ranges: [Range<Int>] = []
    for batch in batches {
      if let last = ranges.last, last.upperBound == batch.lowerBound, last.count + batch.count <= most,
        areTogether(last.lowerBound, batch.lowerBound)
      {
        ranges[ranges.count - 1] = last.lowerBound..<batch.upperBound
      } else {
        ranges.append(batch)
      }
    }
    return ranges.map { ($0.lowerBound, only($0)) }
  }

  /// Whether a request with a prompt for each image has these two in the batches that this request has.
  private func areTogether(_ image: Int, _ other: Int) -> Bool {
    promptSyntax == .plain || batch == 1 || prompt(of: image) == prompt(of: other)
  }

  private func only(_ images: Range<Int>) -> GenerationRequest {
    var request = self
    request.seed = seed &+ UInt64(images.lowerBound)
    let isOfOnePrompt = prompt(of: images.lowerBound) == prompt(of: images.upperBound - 1)
    if isOfOnePrompt || prompts.isEmpty {
      request.prompts = prompts.isEmpty ? [] : [prompts[prompt(of: images.lowerBound)]]
      request.count = images.count
    } else {
      request.prompts = images.map { prompts[prompt(of: $0)] }
      request.count = 1
    }
    return request
  }
}

extension PictureFiles {
  /// Whether the file of an image is there, can be read to its end, and says that it is the picture that this run
  /// would make, on whichever device.
  func isWhole(_ image: Int, _ record: PictureRecord, image own: Int) -> Bool {
    guard let file = try? Picture.read(urls[image]), let text = file.texts[PictureParameters.keyword] else {
      return false
    }
    let seed = record.request.seed &+ UInt64(own)
    let ours = record.parameters(Clip(frames: [file.picture]), image: own, seed: seed)
    func settings(_ text: String) -> PictureParameters {
      var parameters = PictureParameters(parsing: text)
      parameters.fields.removeAll { ["Device", "Version"].contains($0.name) }
      return parameters
    }
    return settings(text) == settings(ours.description)
  }
}

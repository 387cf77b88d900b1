import ArgumentParser
import Foundation
import Langevin
import LangevinTensor

/// `--devices`: all, or names of devices with commas between them.
struct DeviceList {
  let devices: [ListedDevice]
  private let isAll: Bool

  /// Throws a line with what is wrong. Nothing runs on the devices.
  init(_ text: String) throws {
    isAll = text == "all"
    guard !isAll else {
      devices = BackendRegistry.devices
      return
    }
    devices = try text.split(separator: ",", omittingEmptySubsequences: false).map { name in
      let choice = try DeviceChoice.parse(String(name))
      guard let provider = choice.provider.flatMap(BackendRegistry.provider) else {
        throw ValidationError("--devices is all, or names of devices with commas between them, got '\(name)'")
      }
      let all = provider.devices()
      guard let device = choice.number == nil ? all.best : all.first(where: { $0.number == choice.number })
      else { throw ValidationError("no \(provider.title) device was found") }
      return device
    }
    let names = devices.map(\.name)
    if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
      throw ValidationError("--devices names \(twice) twice")
    }
  }

  /// Those that draw, the fastest first. Of `all` those are left out that fail their self-test, and of those that are the
  /// machine's processor the fastest stays. Throws `DeviceChoiceError.unusable` for one that was named.
  func places(isQuiet: Bool) throws -> [DeviceRanking.Place] {
    let ranking = try DeviceRanking(of: devices, trying: Tool.selfTest) { notice in
      // One that was named is an error instead.
      if case .warning = notice, !isAll { return }
      Output.notice(notice, isQuiet: isQuiet)
    }
    if !isAll, let first = ranking.leftOut.first {
      throw DeviceChoiceError.unusable(device: first.device.name, reason: first.reason)
    }
    guard !ranking.places.isEmpty else {
      throw DeviceChoiceError.noneUsable(BackendRegistry.providers.map(\.title))
    }
    guard isAll else { return ranking.places }
    let processor = ranking.places.first { $0.device.kind == .cpu }
    return ranking.places.filter { $0.device.kind != .cpu || $0 == processor }
  }
}

/// A device of a run, and what is drawn there.
struct Drawer {
  let device: Device
  let pipeline: any Pipeline
  /// Of a small step.
  let seconds: Double
  /// Whether its memory is the machine's.
  let isProcessor: Bool
}

/// Results of images that come in any order, handed on in the order of the images.
struct InOrder<Value> {
  private var waiting: [Int: Value] = [:]
  private var next = 0

  /// The image's result, and those of images that waited for it.
  mutating func add(_ value: Value, of image: Int, _ put: (Value) throws -> Void) rethrows {
    waiting[image] = value
    while let value = waiting.removeValue(forKey: next) {
      next += 1
      try put(value)
    }
  }

  /// What waits for images that will not come.
  mutating func flush(_ put: (Value) throws -> Void) rethrows {
    for (_, value) in waiting.sorted(by: { $0.key < $1.key }) { try put(value) }
    waiting = [:]
  }
}

import ArgumentParser
import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor

/// Storage of weights and activations.
enum Precision: String, CaseIterable, ExpressibleByArgument {
  case f32, f16, bf16
  var dtype: DType {
    switch self {
    case .f32: .float32
    case .f16: .float16
    case .bf16: .bfloat16
    }
  }
}

extension ImageFit: ExpressibleByArgument {}
extension BlockEncoding: ExpressibleByArgument {}
extension ProductArithmetic: ExpressibleByArgument {}

extension CanvasSize: ExpressibleByArgument {
  /// `WxH`.
  public init?(argument: String) {
    let sides = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
    guard sides.count == 2, sides.allSatisfy({ (1...16_384).contains($0) }) else { return nil }
    self.init(width: sides[0], height: sides[1])
  }

  var text: String { "\(width)x\(height)" }
}

enum PredictionOption: String, CaseIterable, ExpressibleByArgument {
  case epsilon
  case v = "v_prediction"
  case sample
}

/// A sampler by one of its names, with the spacing that the name may end in.
struct SamplerOption {
  let sampler: SamplerChoice
  let spacing: NoiseSchedule.SigmaSpacing?

  /// Throws a line with what there is.
  init(_ text: String) throws {
    guard let named = SamplerRegistry.named(text) else {
      let names = SamplerRegistry.all.map(\.name)
      // What other tools call them may be nearer.
      let others = names + SamplerRegistry.all.map(\.title)
      let meant = Suggestion.nearest(to: text, among: others).flatMap { SamplerChoice(named: $0)?.name }
      let hint = meant.map { "did you mean '\($0)'? " } ?? ""
      throw ValidationError("\(hint)There are: \(names.joined(separator: ", "))")
    }
    (sampler, spacing) = named
  }
}

extension PromptSyntax: ExpressibleByArgument {}

extension UNetCache: ExpressibleByArgument {
  /// As the library reads it.
  public init?(argument: String) { self.init(argument) }
}

/// A spacing of timesteps or of sigmas.
struct SpacingOption: ExpressibleByArgument {
  let name: String
  let levels: NoiseSchedule.Levels

  init?(argument: String) {
    // As pictures' texts have it: `Karras`.
    let name = argument.lowercased()
    guard let levels = NoiseSchedule.Levels(spacing: name) else { return nil }
    (self.name, self.levels) = (name, levels)
  }

  static var allValueStrings: [String] { NoiseSchedule.Levels.spacingNames }
}

/// Numbers with commas between them.
struct NumberList: ExpressibleByArgument {
  let values: [Double]

  init?(argument: String) {
    let values = argument.split(separator: ",", omittingEmptySubsequences: false).map {
      Double($0.trimmingCharacters(in: .whitespaces))
    }
    guard values.allSatisfy({ $0?.isFinite == true }) else { return nil }
    self.values = values.compactMap { $0 }
  }
}

extension NoiseKind: ExpressibleByArgument {
  /// As A1111's metadata calls it, where it has it.
  var metadataName: String {
    switch self {
    case .philox: "Philox"
    case .torch: "CPU"
    case .torchCUDA: "NV"
    }
  }

  /// By either name.
  public init?(argument: String) {
    guard let kind = NoiseKind.allCases.first(where: { [$0.rawValue, $0.metadataName].contains(argument) })
    else { return nil }
    self = kind
  }
}

extension DeviceChoice {
  /// Throws one line that lists what there is.
  static func parse(_ text: String) throws -> DeviceChoice {
    func known() -> String {
      let devices = BackendRegistry.devices.map { $0.name + ($0.title.map { " (\($0))" } ?? "") }
      return (["auto"] + devices).joined(separator: ", ")
    }
    guard let choice = DeviceChoice(text) else {
      throw ValidationError("unknown device '\(text)'; there are: \(known())")
    }
    // Drivers are asked only where one is wanted by number: loading them takes time, and may fail.
    guard let number = choice.number, let provider = choice.provider.flatMap(BackendRegistry.provider) else {
      return choice
    }
    let devices = provider.devices()
    if !devices.contains(where: { $0.number == number }) {
      let reason = devices.isEmpty ? "no \(provider.title) device was found; " : ""
      throw ValidationError("there is no device \(text); \(reason)there are: \(known())")
    }
    return choice
  }
}

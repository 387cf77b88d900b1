import LangevinJSON
import LangevinModels
import LangevinTensor
import LangevinTraining

extension InitialWeights {
  /// As transformers starts a `CLIPModel` of this config.json: normal weights whose deviations go down with width and
  /// depth, biases 0, gains 1, the temperature as the file says.
  static func clip(_ json: StrictJSON) throws -> InitializationRule {
    let config = try CLIPConfig(ConfigObject(json))
    let temperature = Float(json["logit_scale_init_value"]?.double ?? 2.6592)
    let both = scale(json)
    let text = Tower(
      width: config.text.hiddenSize, depth: config.text.layerCount, factor: scale(json["text_config"]),
      range: 0.02)
    let vision = Tower(
      width: config.vision.hiddenSize, depth: config.vision.layerCount,
      factor: scale(json["vision_config"]),
      range: Float(json["vision_config"]?["initializer_range"]?.double ?? 0.02))
    return { name, shape, weight in
      switch name {
      case "logit_scale": .constant(temperature)
      case "text_projection.weight": .normal(deviation: both * text.root)
      case "visual_projection.weight": .normal(deviation: both * vision.root)
      default:
        shape.rank < 2 && !name.hasSuffix("class_embedding")
          ? .constant(name.hasSuffix("bias") ? 0 : 1)
          : .normal(deviation: (name.hasPrefix("text_model") ? text : vision).deviation(of: name))
      }
    }
  }

  private static func scale(_ json: StrictJSON?) -> Float {
    Float(json?["initializer_factor"]?.double ?? 1)
  }

  private struct Tower {
    var width, depth: Int
    var factor, range: Float

    /// One over the root of the width.
    var root: Float { 1 / Float(width).squareRoot() }

    func deviation(of name: String) -> Float {
      switch name.split(separator: ".").dropLast().last {
      // What is added to the residual stream by each of twice so many layers.
      case "q_proj", "k_proj", "v_proj", "fc2": factor * root / Float(2 * depth).squareRoot()
      case "out_proj": factor * root
      case "fc1": factor * root / Float(2).squareRoot()
      default: name.hasSuffix("class_embedding") ? factor * root : factor * range
      }
    }
  }
}

/// The OpenCL C sources, embedded in the binary: one family per file, each built behind the prelude.
public enum KernelSource: String, Sendable, CaseIterable {
  case panels, tiled, winograd, arrange
  case flashAttention = "flash_attention"
  case tiledAttention = "tiled_attention"
  case norm, elementwise, cast, move, reduce, noise, probe, dequantize
  case teamProbe = "team_probe"
  case pairProbe = "pair_probe"
  case byteProbe = "byte_probe"
  case int8Product = "int8_product"
  case weightGradient = "weight_gradient"
  case tiledWeightGradient = "tiled_weight_gradient"
  case attentionGradient = "attention_gradient"
  case tiledAttentionGradient = "tiled_attention_gradient"
  case normGradient = "norm_gradient"
  case elementwiseGradient = "elementwise_gradient"
  case embeddingGradient = "embedding_gradient"

  /// Prelude, epilogue where the family has one, and the family itself.
  public var text: String {
    let parts =
      switch self {
      case .panels:
        [
          PackageResources.storage_cl, PackageResources.epilogue_cl, PackageResources.pairs_cl,
          PackageResources.panels_cl,
        ]
      case .winograd:
        [PackageResources.storage_cl, PackageResources.epilogue_cl, PackageResources.winograd_cl]
      case .tiled:
        [
          PackageResources.storage_cl, PackageResources.aligned_cl, PackageResources.epilogue_cl,
          PackageResources.blocks_cl, PackageResources.tiled_cl,
        ]
      case .dequantize: [PackageResources.blocks_cl, PackageResources.dequantize_cl]
      case .arrange: [PackageResources.storage_cl, PackageResources.arrange_cl]
      case .flashAttention: [PackageResources.storage_cl, PackageResources.flash_attention_cl]
      case .tiledAttention:
        [
          PackageResources.storage_cl, PackageResources.aligned_cl, PackageResources.team_cl,
          PackageResources.tiled_attention_cl,
        ]
      case .norm:
        [
          PackageResources.storage_cl, PackageResources.team_cl, PackageResources.statistics_cl,
          PackageResources.norm_cl,
        ]
      case .elementwise:
        [PackageResources.storage_cl, PackageResources.sine_cl, PackageResources.elementwise_cl]
      case .cast: [PackageResources.storage_cl, PackageResources.cast_cl]
      case .move: [PackageResources.move_cl]
      case .reduce: [PackageResources.storage_cl, PackageResources.reduce_cl]
      case .noise: [PackageResources.noise_cl]
      case .probe: [PackageResources.probe_cl]
      case .teamProbe: [PackageResources.team_cl, PackageResources.team_probe_cl]
      case .pairProbe: [PackageResources.pairs_cl, PackageResources.pair_probe_cl]
      case .byteProbe: [PackageResources.bytes_cl, PackageResources.byte_probe_cl]
      case .int8Product:
        [
          PackageResources.storage_cl, PackageResources.epilogue_cl, PackageResources.bytes_cl,
          PackageResources.int8_product_cl,
        ]
      case .weightGradient: [PackageResources.storage_cl, PackageResources.weight_gradient_cl]
      case .tiledWeightGradient: [PackageResources.storage_cl, PackageResources.tiled_weight_gradient_cl]
      case .attentionGradient: [PackageResources.storage_cl, PackageResources.attention_gradient_cl]
      case .tiledAttentionGradient:
        [PackageResources.storage_cl, PackageResources.tiled_attention_gradient_cl]
      case .normGradient:
        [
          PackageResources.storage_cl, PackageResources.team_cl, PackageResources.statistics_cl,
          PackageResources.norm_gradient_cl,
        ]
      case .elementwiseGradient:
        [PackageResources.storage_cl, PackageResources.sine_cl, PackageResources.elementwise_gradient_cl]
      case .embeddingGradient: [PackageResources.storage_cl, PackageResources.embedding_gradient_cl]
      }
    return parts.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "\n")
  }
}

import LangevinModels
import LangevinNN
import LangevinTensor

extension ComponentCall {
  /// Every component that can be called by itself. A new model is one row here.
  public static let all: [ComponentCall] = [
    ComponentCall("CLIPTextModel") { config, weights in
      let model = try CLIPTextModel(CLIPTextConfig(config), weights)
      return { inputs in
        let ids = try inputs.ids("input_ids")
        let states = try model(ids).lastHiddenState
        return [("last_hidden_state", states), ("pooler_output", try model.pooled(states, of: ids))]
      }
    },
    ComponentCall("CLIPTextModelWithProjection") { config, weights in
      let model = try CLIPTextModelWithProjection(CLIPTextConfig(config), weights)
      return { inputs in
        let output = try model(inputs.ids("input_ids"))
        return [
          ("text_embeds", output.textEmbeds), ("last_hidden_state", output.text.lastHiddenState),
          ("hidden_states.-2", output.text.hiddenState),
        ]
      }
    },
    ComponentCall("CLIPVisionModel") { config, weights in
      let model = try CLIPVisionModel(CLIPVisionConfig(config), weights)
      return { inputs in
        let output = try model(inputs.spatial("pixel_values"))
        return [("last_hidden_state", output.lastHiddenState), ("pooler_output", output.pooled)]
      }
    },
    ComponentCall("CLIPVisionModelWithProjection") { config, weights in
      let model = try CLIPVisionModelWithProjection(CLIPVisionConfig(config), weights)
      return { inputs in
        let output = try model(inputs.spatial("pixel_values"))
        return [
          ("image_embeds", output.imageEmbeds), ("last_hidden_state", output.vision.lastHiddenState),
          ("hidden_states.-2", output.vision.hiddenState),
        ]
      }
    },
    ComponentCall("UNet2DConditionModel") { config, weights in
      let model = try UNet2DConditionModel(UNet2DConditionConfig(config), weights)
      return { inputs in
        let sample = try inputs.spatial("sample")
        var parts = UNetConditioning(context: try inputs.tensor("encoder_hidden_states"))
        // unCLIP's pipelines call the context's mask by the second name.
        for name in ["encoder_attention_mask", "attention_mask"] where inputs.contains(name) {
          parts.contextMask = try inputs.mask(name)
        }
        parts.classLabels = try classLabels(model.config.classEmbedding, sample.shape[0], inputs)
        if inputs.contains("text_embeds") {
          parts.textTime = UNetTextTime(
            textEmbeds: try inputs.tensor("text_embeds"), timeIDs: try inputs.rows("time_ids"))
        }
        parts.timestepCondition = try inputs.optionalTensor("timestep_cond")
        let timesteps = try inputs.numbers("timestep", count: sample.shape[0])
        let output = try model(
          sample, timesteps: timesteps, conditioning: parts, additions: additions(inputs))
        return [("sample", try output.channelsFirst())]
      }
    },
    ComponentCall("ControlNetModel") { config, weights in
      let model = try ControlNetModel(ControlNetConfig(config), weights)
      return { inputs in
        let sample = try inputs.spatial("sample")
        var parts = UNetConditioning(context: try inputs.tensor("encoder_hidden_states"))
        parts.classLabels = try classLabels(model.config.unet.classEmbedding, sample.shape[0], inputs)
        if inputs.contains("text_embeds") {
          parts.textTime = UNetTextTime(
            textEmbeds: try inputs.tensor("text_embeds"), timeIDs: try inputs.rows("time_ids"))
        }
        let scale =
          inputs.contains("conditioning_scale") ? try inputs.numbers("conditioning_scale", count: 1)[0] : 1
        let additions = try model(
          sample, timesteps: inputs.numbers("timestep", count: sample.shape[0]), conditioning: parts,
          hint: model.hint(inputs.spatial("controlnet_cond")), scale: scale)
        let middle = try additions.middle.map { [("mid_block_res_sample", try $0.channelsFirst())] } ?? []
        return try numbered("down_block_res_samples", additions.skips) + middle
      }
    },
    ComponentCall("T2IAdapter") { config, weights in
      let model = try T2IAdapter(T2IAdapterConfig(config), weights)
      return { inputs in try numbered("features", model(inputs.spatial("x")).blocks) }
    },
    ComponentCall("UNet2DModel") { config, weights in
      let model = try UNet2DModel(UNet2DConfig(config), weights)
      return { inputs in
        let sample = try inputs.spatial("sample")
        let output = try model(
          sample, timesteps: inputs.numbers("timestep", count: sample.shape[0]),
          classLabels: classLabels(model.config.classEmbedding, sample.shape[0], inputs))
        return [("sample", try output.channelsFirst())]
      }
    },
    ComponentCall("PriorTransformer") { config, weights in
      let model = try PriorTransformer(PriorTransformerConfig(config), weights)
      return { inputs in
        let noisy = try inputs.tensor("hidden_states")
        let mask =
          try inputs.contains("attention_mask")
          ? model.attentionMask(visible: inputs.mask("attention_mask")) : nil
        let guess = try model(
          noisy, timesteps: inputs.numbers("timestep", count: noisy.shape[0]),
          embedding: inputs.tensor("proj_embedding"), text: inputs.optionalTensor("encoder_hidden_states"),
          mask: mask)
        return [("predicted_image_embedding", guess)]
      }
    },
    ComponentCall("UnCLIPTextProjModel") { config, weights in
      let model = try UnCLIPTextProjection(UnCLIPTextProjectionConfig(config), weights)
      return { inputs in
        let (image, prompt) = (try inputs.tensor("image_embeddings"), try inputs.tensor("prompt_embeds"))
        // The reference is told of guidance by a flag, which the number of texts says too.
        let output = try model(
          image: image, prompt: prompt, text: inputs.tensor("text_encoder_hidden_states"),
          guided: prompt.shape[0] == 2 * image.shape[0])
        return [
          ("text_encoder_hidden_states", output.context),
          ("additive_clip_time_embeddings", output.timeAddition),
        ]
      }
    },
    ComponentCall("PriorTransformer", "post_process_latents") { config, weights in
      let model = try PriorTransformer(PriorTransformerConfig(config), weights)
      return { inputs in [("prior_latents", try model.postProcess(inputs.tensor("prior_latents")))] }
    },
    ComponentCall("StableUnCLIPImageNormalizer", "scale") { config, weights in
      let model = try StableUnCLIPImageNormalizer(config, weights)
      return { inputs in [("embeds", try model.scale(inputs.tensor("embeds")))] }
    },
    ComponentCall("StableUnCLIPImageNormalizer", "unscale") { config, weights in
      let model = try StableUnCLIPImageNormalizer(config, weights)
      return { inputs in [("embeds", try model.unscale(inputs.tensor("embeds")))] }
    },
    ComponentCall("WanTransformer3DModel") { config, weights in
      let model = try WanTransformer3DModel(WanTransformer3DConfig(config), weights)
      return { inputs in
        let latent = try inputs.spatial("hidden_states")
        let output = try model(
          latent, timesteps: inputs.numbers("timestep", count: latent.shape[0]),
          text: inputs.tensor("encoder_hidden_states"),
          image: inputs.optionalTensor("encoder_hidden_states_image"))
        return [("sample", try output.channelsFirst())]
      }
    },
    ComponentCall("SD3Transformer2DModel") { config, weights in
      let model = try SD3Transformer2DModel(SD3Transformer2DConfig(config), weights)
      return { inputs in
        let latent = try inputs.spatial("hidden_states")
        let output = try model(
          latent, timesteps: inputs.numbers("timestep", count: latent.shape[0]),
          text: inputs.tensor("encoder_hidden_states"), pooled: inputs.tensor("pooled_projections"))
        return [("sample", try output.channelsFirst())]
      }
    },
    ComponentCall("FluxTransformer2DModel") { config, weights in
      let model = try FluxTransformer2DModel(FluxTransformer2DConfig(config), weights)
      return { inputs in
        let tokens = try inputs.tensor("hidden_states")
        let grid = try inputs.grid("img_ids", textIDs: "txt_ids")
        let scale = inputs.contains("guidance") ? try inputs.numbers("guidance", count: 1)[0] : nil
        // The reference is told times in 0...1.
        let output = try model(
          tokens, rows: grid.rows, columns: grid.columns,
          timesteps: inputs.numbers("timestep", count: tokens.shape[0]).map { 1000 * $0 },
          text: inputs.tensor("encoder_hidden_states"), pooled: inputs.tensor("pooled_projections"),
          guidance: scale)
        return [("sample", output)]
      }
    },
    ComponentCall("UMT5EncoderModel", nil, t5),
    ComponentCall("T5EncoderModel", nil, t5),
    ComponentCall("AutoencoderKL", "encode") { config, weights in
      let model = try AutoencoderKL(AutoencoderKLConfig(config), weights)
      return { inputs in
        let posterior = try model.encode(inputs.spatial("x"))
        return [
          ("mean", try posterior.mean.channelsFirst()), ("logvar", try posterior.logVariance.channelsFirst()),
        ]
      }
    },
    ComponentCall("AutoencoderKL", "decode") { config, weights in
      let model = try AutoencoderKL(AutoencoderKLConfig(config), weights, withEncoder: false)
      return { inputs in [("sample", try model.decode(inputs.spatial("z")).channelsFirst())] }
    },
    ComponentCall("AutoencoderKLWan", "encode") { config, weights in
      let model = try AutoencoderKLWan(AutoencoderKLWanConfig(config), weights)
      return { inputs in
        let posterior = try model.encode(inputs.spatial("x"))
        return [
          ("mean", try posterior.mean.channelsFirst()), ("logvar", try posterior.logVariance.channelsFirst()),
        ]
      }
    },
    ComponentCall("AutoencoderKLWan", "decode") { config, weights in
      let model = try AutoencoderKLWan(AutoencoderKLWanConfig(config), weights, withEncoder: false)
      return { inputs in [("sample", try model.decode(inputs.spatial("z")).channelsFirst())] }
    },
    ComponentCall("AutoencoderTiny", "encode") { config, weights in
      let model = try AutoencoderTiny(AutoencoderTinyConfig(config), weights)
      return { inputs in [("latents", try model.encode(inputs.spatial("x")).channelsFirst())] }
    },
    ComponentCall("AutoencoderTiny", "decode") { config, weights in
      let model = try AutoencoderTiny(AutoencoderTinyConfig(config), weights, withEncoder: false)
      return { inputs in [("sample", try model.decode(inputs.spatial("x")).channelsFirst())] }
    },
  ]

  private static let t5: @Sendable (ConfigObject, Weights) throws -> Call = { config, weights in
    let model = try T5EncoderModel(T5EncoderConfig(config), weights)
    return { inputs in
      let lengths =
        try inputs.contains("attention_mask")
        ? T5EncoderModel.lengths(ofMask: inputs.mask("attention_mask")) : nil
      return [("last_hidden_state", try model.hiddenStates(inputs.ids("input_ids"), lengths: lengths))]
    }
  }

  /// A list of pictures as tensors `name.0`, `name.1`, …
  private static func numbered(_ name: String, _ tensors: [Tensor]) throws -> Outputs {
    try tensors.enumerated().map { ("\(name).\($0.offset)", try $0.element.channelsFirst()) }
  }

  /// Residuals under diffusers' names, those of a list numbered from 0.
  private static func additions(_ inputs: ComponentInputs) throws -> UNetAdditions {
    func list(_ name: String) throws -> [Tensor] {
      var tensors: [Tensor] = []
      while inputs.contains("\(name).\(tensors.count)") {
        tensors.append(try inputs.spatial("\(name).\(tensors.count)"))
      }
      return tensors
    }
    var additions = UNetAdditions()
    additions.skips = try list("down_block_additional_residuals")
    additions.blocks = try list("down_intrablock_additional_residuals")
    if inputs.contains("mid_block_additional_residual") {
      additions.middle = try inputs.spatial("mid_block_additional_residual")
    }
    return additions
  }

  /// Numbers or vectors, as the network takes them.
  private static func classLabels(_ kind: UNetClassEmbedding?, _ count: Int, _ inputs: ComponentInputs) throws
    -> UNetClassLabels?
  {
    guard inputs.contains("class_labels") else { return nil }
    switch kind {
    case .table, .timestep: return .numbers(try inputs.numbers("class_labels", count: count))
    default: return .vectors(try inputs.tensor("class_labels"))
    }
  }
}

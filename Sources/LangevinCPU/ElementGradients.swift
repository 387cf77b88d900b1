import CVectorMath
import LangevinTensor

extension CPUBackend {
  func gegluGradient(_ x: FloatArray, _ g: FloatArray, _ out: MutableFloatArray) {
    let width = g.shape[-1]
    parallelFor(g.shape.count / width, grain: max(elementGrain / width, 1)) { _, rows in
      for row in rows {
        let start = 2 * width * row
        vm_geglu_gradient(
          x.pointer + start, x.pointer + start + width, g.pointer + width * row, out.pointer + start,
          out.pointer + start + width, width)
      }
    }
  }

  /// Blocks of channels are shared out, and each walks the ids in their order.
  func embeddingGradient(rows: Int, ids: RawArray, _ g: FloatArray, _ out: MutableFloatArray) throws {
    for i in 0..<ids.count where !(0..<rows).contains(Int(ids.ints[i])) {
      throw TensorError.deviceFailure(
        device: name, operation: "embedding_gradient",
        reason: "id \(ids.ints[i]) is outside the table of \(rows) rows")
    }
    let channels = g.shape[-1]
    let block = 64
    parallelFor((channels + block - 1) / block, grain: 1) { _, range in
      let first = range.lowerBound * block
      let count = min(range.upperBound * block, channels) - first
      for row in 0..<rows { (out.pointer + row * channels + first).update(repeating: 0, count: count) }
      for i in 0..<ids.count {
        let row = Int(ids.ints[i])
        vm_accumulate(g.pointer + i * channels + first, 1, out.pointer + row * channels + first, count)
      }
    }
  }

  /// Inputs the state, the gradient and its scale.
  func adamW(_ step: AdamW, _ inputs: [FloatArray], _ out: MutableFloatArray) {
    let count = inputs[1].shape.count
    let scale = inputs[2].pointer[0]
    let constants = vm_adamw_constants(
      kept1: step.beta1, added1: Float(1 - Double(step.beta1)), kept2: step.beta2,
      added2: Float(1 - Double(step.beta2)), averaged: step.averaging,
      added: Float(1 - Double(step.averaging)), correction2: step.correction2, epsilon: step.epsilon,
      rate: Float(Double(step.rate) / Double(step.correction1)),
      shrinkage: Float(1 - Double(step.rate) * Double(step.decay)))
    parallelFor(count, grain: elementGrain) { _, range in
      vm_adamw(
        inputs[0].pointer + range.lowerBound, inputs[1].pointer + range.lowerBound, scale, constants, count,
        out.pointer + range.lowerBound, range.count)
    }
  }
}

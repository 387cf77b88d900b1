import LangevinTensor

/// Kernels for processors: wide vectors, a work-item for each work-group, nothing in local memory. Products read
/// weights that are packed in panels.
struct ProcessorKernels: KernelSet {
  let device: DeviceDescription

  var family: KernelFamily { .cpu }

  let work = WorkShape(
    vector: 16, chunk: 4096, group: 1, castChunk: 4096, reduceChunk: 4096, rowItems: 1, packRows: 64,
    columns: VectorTile(vector: 16, lanes: 4, rows: 256),
    embedding: VectorTile(vector: 16, lanes: 4, rows: 16), gradientChunk: 256, gradientRows: 32,
    isAlone: true)

  var peak: PeakProbe {
    let units = max(1, device.computeUnits)
    // The widest vector is not known for sure, and a vector of too many registers spills: three are tried.
    return PeakProbe(
      variants: [(lanes: 16, chains: 12), (8, 12), (4, 12)], items: units * 4, firstCount: 1 << 16, lanes: 16,
      span: 1 << 14, group: 1, isBlocked: true, largestBuffer: 1 << 27)
  }

  func pairProducts(_ queue: inout LaunchQueue) -> DotForm { queue.pairProducts() }

  func byteProducts(_ queue: inout LaunchQueue) -> DotForm { queue.byteProducts() }

  func supports(_ attention: Attention, size: Int) -> Bool { true }
}

/// An immutable array of numbers on a device: a value over reference-counted memory, contiguous in row-major
/// order. Reshapes and slices along the first axis share memory; everything else computes a new tensor.
public struct Tensor: Sendable {
  /// Shape and dtype.
  public let spec: TensorSpec
  /// Where the memory is.
  public let device: Device
  let storage: any Storage
  let offset: Int
  /// Where it stands on a tape; nil for constants.
  var trace: Trace?

  /// Extents, outermost first.
  public var shape: Shape { spec.shape }
  /// Storage of an element.
  public var dtype: DType { spec.dtype }
  /// As a backend sees it.
  public var view: TensorView { TensorView(storage: storage, offset: offset, spec: spec) }

  init(spec: TensorSpec, device: Device, storage: any Storage, offset: Int) {
    self.spec = spec
    self.device = device
    self.storage = storage
    self.offset = offset
  }

  init(uninitialized spec: TensorSpec, on device: Device) throws {
    let storage = try device.backend.allocate(byteCount: spec.byteCount)
    self.init(spec: spec, device: device, storage: storage, offset: 0)
  }

  // MARK: From and to the host

  /// Copies raw elements to the device. Throws `TensorError.valueCount` where their number is wrong.
  public init(bytes: UnsafeRawBufferPointer, _ spec: TensorSpec, on device: Device) throws {
    guard bytes.count == spec.byteCount else {
      throw TensorError.valueCount(
        expected: spec.shape.count, got: bytes.count / spec.dtype.byteCount, shape: spec.shape)
    }
    try self.init(uninitialized: spec, on: device)
    if !bytes.isEmpty { try device.backend.upload(bytes, to: storage, byteOffset: 0) }
  }

  /// Uses raw elements where they lie, for as long as `owner` lives, if the device computes on host memory, and
  /// copies them if not. They must not change. Throws `TensorError.valueCount` where their number is wrong.
  public init(
    adopting bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, _ spec: TensorSpec,
    on device: Device
  ) throws {
    let size = spec.dtype.byteCount
    if bytes.count == spec.byteCount, let memory = device.backend.adopt(bytes, owner: owner),
      memory.byteOffset % size == 0
    {
      self.init(spec: spec, device: device, storage: memory.storage, offset: memory.byteOffset / size)
    } else {
      try self.init(bytes: bytes, spec, on: device)
    }
  }

  /// A float32 tensor of these values.
  public init(_ values: [Float], _ shape: Shape, on device: Device) throws {
    guard values.count == shape.count else {
      throw TensorError.valueCount(expected: shape.count, got: values.count, shape: shape)
    }
    self = try values.withUnsafeBytes { try Tensor(bytes: $0, TensorSpec(shape), on: device) }
  }

  /// An int32 tensor of these values.
  public init(_ values: [Int32], _ shape: Shape, on device: Device) throws {
    guard values.count == shape.count else {
      throw TensorError.valueCount(expected: shape.count, got: values.count, shape: shape)
    }
    self = try values.withUnsafeBytes { try Tensor(bytes: $0, TensorSpec(shape, .int32), on: device) }
  }

  /// Waits for the elements, copies them to the host and lends them to `body`.
  public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: spec.byteCount, alignment: 64)
    defer { bytes.deallocate() }
    try copy(into: bytes)
    return try body(UnsafeRawBufferPointer(bytes))
  }

  /// Waits for the elements and copies them to as many bytes of the host.
  public func copy(into bytes: UnsafeMutableRawBufferPointer) throws {
    precondition(bytes.count == spec.byteCount)
    if !bytes.isEmpty { try device.backend.download(storage, byteOffset: view.byteOffset, into: bytes) }
  }

  /// The elements as float32, whatever their storage.
  public func floats() throws -> [Float] {
    guard dtype != .float32 else { return try withBytes { Array($0.bindMemory(to: Float.self)) } }
    return try cast(to: .float32).floats()
  }

  /// The elements of an int32 tensor. Throws `TensorError.invalidOperands` for another dtype.
  public func int32s() throws -> [Int32] {
    guard dtype == .int32 else {
      throw TensorError.invalidOperands(operation: "int32s", inputs: [spec], reason: "the dtype is not int32")
    }
    return try withBytes { Array($0.bindMemory(to: Int32.self)) }
  }

  /// The same numbers on another device, as a constant.
  public func copied(to other: Device) throws -> Tensor {
    if other === device { return untraced }
    return try withBytes { try Tensor(bytes: $0, spec, on: other) }
  }

  // MARK: Views

  /// The same elements in another shape; one extent may be -1 and is then inferred.
  public func reshaped(_ shape: Shape) throws -> Tensor {
    var dimensions = shape.dimensions
    if let free = dimensions.firstIndex(of: -1) {
      let known = dimensions.reduce(1, *) * -1
      dimensions[free] = known > 0 && self.shape.count % known == 0 ? self.shape.count / known : -1
    }
    let result = Shape(dimensions)
    guard result.count == self.shape.count, dimensions.allSatisfy({ $0 >= 0 }) else {
      throw TensorError.invalidOperands(
        operation: "reshape", inputs: [spec], reason: "\(shape) does not hold \(self.shape.count) elements")
    }
    var view = Tensor(spec: TensorSpec(result, dtype), device: device, storage: storage, offset: offset)
    view.trace = trace
    return view
  }

  /// Rows `range` of the first axis, sharing memory.
  public func rows(_ range: Range<Int>) throws -> Tensor {
    guard shape.rank > 0, range.lowerBound >= 0, range.upperBound <= shape[0] else {
      throw TensorError.invalidOperands(
        operation: "rows", inputs: [spec], reason: "rows \(range) of the first axis do not exist")
    }
    let rowCount = Shape(Array(shape.dimensions.dropFirst())).count
    let sizes = shape.replacing(axis: 0, with: range.count)
    let view = Tensor(
      spec: TensorSpec(sizes, dtype), device: device, storage: storage,
      offset: offset + range.lowerBound * rowCount)
    guard let tape = try Tape.common([self], operation: "rows") else { return view }
    var starts = [Int](repeating: 0, count: shape.rank)
    starts[0] = range.lowerBound
    return try tape.record(.slice(Slice(starts: starts, sizes: sizes.dimensions)), [self], view)
  }
}

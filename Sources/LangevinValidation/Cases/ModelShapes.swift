import Foundation
import LangevinTensor

import enum LangevinTensor.Operation

/// An operation that real models dispatch, with the shapes it has there. Recorded by `langevin harvest`, which
/// runs the models on a backend that only looks at shapes.
public struct ModelShape: Sendable, Hashable, Codable {
  /// With packed weights; parameters that differ from step to step are representative ones.
  public var operation: Operation
  /// In float32, or int32 where the operation takes ids.
  public var inputs: [TensorSpec]
  /// Which models dispatch it, sorted.
  public var models: [String]

  /// The row of the table.
  func named(_ name: String) -> OperationCase {
    OperationCase(
      name, operation, inputs.map(\.shape), kinds: kinds, dtypes: inputs.map(\.dtype), size: .model,
      models: models)
  }

  private var kinds: [InputKind] {
    let definition = operation.definition
    return inputs.indices.map { index in
      switch definition.operand(index).domain {
      case .any: .normal
      case .positive: .positive
      case .rows: .ids(inputs[0].shape[0])
      case .index(let below): .ids(below)
      case .blocks(let encoding): .blocks(encoding)
      }
    }
  }
}

/// The shapes that real models dispatch, as `langevin harvest` recorded them.
public enum ModelShapes {
  /// A recorded shape and its row of the table.
  public struct Row: Sendable {
    /// The shape that was recorded.
    public let shape: ModelShape
    /// The case that runs it.
    public let test: OperationCase
  }

  /// In the order in which the models dispatch them.
  public static let recorded: [Row] = {
    do {
      let shapes = try OperationJSON.decode([ModelShape].self, from: Data(RecordedShapes.json.utf8))
      var seen: [String: Int] = [:]
      return shapes.map { shape in
        let sizes = shape.inputs.map(\.shape.description).joined(separator: " ")
        let name = "\(shape.operation.name) \(sizes) model"
        seen[name, default: 0] += 1
        let count = seen[name] ?? 1
        return Row(shape: shape, test: shape.named(count > 1 ? "\(name) \(count)" : name))
      }
    } catch {
      // It is compiled in, and a test decodes it.
      preconditionFailure("RecordedShapes.swift: \(error)")
    }
  }()

  /// RecordedShapes.swift, as it is checked in: one line a shape. Throws what `OperationJSON.encode` throws.
  public static func source(of shapes: [ModelShape]) throws -> String {
    let lines = try shapes.map { String(decoding: try OperationJSON.encode($0), as: UTF8.self) }
    return """
      // swift-format-ignore-file
      /// What `make shapes` recorded, as JSON. As an embedded resource it took the compiler half a minute.
      enum RecordedShapes {
        static let json = #\"""
      [
      \(lines.joined(separator: ",\n"))
      ]
      \"""#
      }

      """
  }
}

/// Collects the shapes that a model dispatches, each once.
public struct ModelShapeCollector: Sendable {
  private struct Key: Hashable {
    let operation: Operation
    let inputs: [TensorSpec]
  }

  private var order: [Key] = []
  private var models: [Key: Set<String>] = [:]

  /// Nothing collected yet.
  public init() {}

  /// Notes an operation of a model.
  public mutating func add(_ operation: Operation, _ inputs: [TensorSpec], model: String) {
    func wide(_ spec: TensorSpec) -> TensorSpec {
      spec.dtype.isFloatingPoint ? TensorSpec(spec.shape) : spec
    }
    let key = Key(operation: operation.definition.representative, inputs: inputs.map(wide))
    if models[key] == nil { order.append(key) }
    models[key, default: []].insert(model)
  }

  /// In the order of their first appearance.
  public var shapes: [ModelShape] {
    order.map {
      ModelShape(operation: $0.operation, inputs: $0.inputs, models: models[$0, default: []].sorted())
    }
  }
}

/// Computes nothing and holds nothing: every number is zero. It lets a model of any size run for its shapes.
public final class ShapeBackend: IdleBackend {
  public let name = "shapes"

  /// A backend that infers shapes and computes nothing.
  public init() {}
}

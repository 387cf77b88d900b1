/// The tasks that there are.
public enum TrainingTasks {
  /// A new task is one line here.
  public static let all: [any ModelTask.Type] = [
    DiffusionTask.self, AutoencoderTask.self, CLIPTask.self, PriorTask.self, LoRATask.self,
    TextualInversionTask.self,
  ]

  /// As train.json names them.
  public static var names: [String] { all.map { $0.name } }

  /// Nil where there is no such task.
  public static func type(named name: String) -> (any ModelTask.Type)? { all.first { $0.name == name } }
}

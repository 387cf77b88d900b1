import LangevinTensor

/// Why a control network or an image prompt's adapter does not fit a model.
public enum ControlError: Error, Sendable, Equatable, CustomStringConvertible {
  /// It was trained beside another UNet; `key` is what differs.
  case otherBase(path: String, kind: String, key: String, got: String, needed: String)
  /// A file without an IP-Adapter's tensors.
  case noImagePromptAdapter(path: String)
  /// There is no folder of CLIP's image encoder for an IP-Adapter.
  case noImageEncoder(path: String)
  /// The image encoder's vectors are of another width than the IP-Adapter's.
  case otherEncoder(path: String, encoder: String, got: Int, needed: Int)

  /// One line that says which file and what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .otherBase(let path, let kind, let key, let got, let needed):
      "\(path): this \(kind) was made for another base model: its \(key) is \(got), the model needs \(needed)"
    case .noImagePromptAdapter(let path):
      "\(path): is no IP-Adapter: it has no tensors image_proj.… and ip_adapter.… of a kind that is known"
    case .noImageEncoder(let path):
      "\(path): needs CLIP's image encoder, and there is no folder 'image_encoder' beside it; say where it is"
    case .otherEncoder(let path, let encoder, let got, let needed):
      "\(path): takes vectors of \(needed) numbers, and the image encoder \(encoder) gives \(got); it was made for "
        + "another image encoder"
    }
  }
}

import Foundation

extension ExperimentReport {
  /// One HTML page that needs nothing else: text, numbers and drawings.
  public var html: String {
    let holds = claims.filter(\.holds).count
    var lines = [
      "<!DOCTYPE html>", "<html lang=\"en\"><head><meta charset=\"utf-8\">",
      "<meta name=\"viewport\" content=\"width=device-width\">", "<title>Langevin: the experiment</title>",
      "<style>\(ExperimentReport.style)</style></head><body>",
      "<h1>What diffusion models do</h1>",
      isTrained ? trainedIntroduction : closedFormIntroduction,
      "<p>\(holds) of \(claims.count) numbers are what the claims say.</p>",
    ]
    for section in sections {
      lines.append("<h2>\(Drawing.escaped(section.title))</h2>")
      lines.append("<p>\(Drawing.escaped(section.text))</p>")
      lines.append("<div class=\"figure\">\(section.figure)</div>")
      lines.append("<table><tr><th>Claim</th><th>Number</th><th>Expected</th><th></th></tr>")
      for claim in section.claims {
        let range =
          "\(ExperimentReport.number(claim.atLeast)) to \(ExperimentReport.number(claim.atMost))"
        lines.append(
          "<tr\(claim.holds ? "" : " class=\"fails\"")><td>\(Drawing.escaped(claim.statement))</td>"
            + "<td class=\"number\">\(ExperimentReport.number(claim.value))</td><td class=\"number\">\(range)</td>"
            + "<td>\(claim.holds ? "holds" : "does not hold")</td></tr>")
      }
      lines.append("</table>")
    }
    return (lines + ["</body></html>", ""]).joined(separator: "\n")
  }

  private var closedFormIntroduction: String {
    """
    <p>The data are points on spirals in the plane. For a finite data set the optimal denoiser has a closed form, \
    the mean of the data points weighted by how likely each is behind the noise, so nothing is trained here: \
    what is seen is what the samplers do. They are Langevin's own, and ran, like the denoiser, on \
    <b>\(Drawing.escaped(device))</b>: seed \(seed), \(points) data points a spiral, \(samples) samples, \
    \(String(format: "%.1f", seconds)) s.</p>
    """
  }

  private var trainedIntroduction: String {
    """
    <p>The data are pictures of 16x16 pixels: a circle, a square or a triangle in one of four colours, with a hat or \
    without. Small networks learn from them what the page is about, and everything was trained, sampled and measured on \
    <b>\(Drawing.escaped(device))</b>: seed \(seed), \(points) kinds of pictures, \(samples) samples, \
    \(String(format: "%.0f", seconds)) s.</p>
    """
  }

  private static func number(_ value: Double) -> String { String(format: "%.3g", value) }

  private static let style = """
    body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60em; margin: 2em auto; padding: 0 1em } \
    .figure svg { max-width: 100%; height: auto } \
    table { border-collapse: collapse; margin: 1em 0 } \
    td, th { text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ddd } \
    .number { font-variant-numeric: tabular-nums; white-space: nowrap } \
    .fails { color: #b00020; font-weight: bold }
    """
}

import Foundation
import LangevinJSON
import LangevinModels
import Testing

@Suite struct PromptCleaningTests {
  /// What make_prompts.py recorded of diffusers' WanPipeline.
  @Test func golden() throws {
    let data = try Data(contentsOf: fixtures.appendingPathComponent("prompts.json"))
    guard case .array(let pairs) = try StrictJSON(parsing: [UInt8](data)) else {
      preconditionFailure("the fixture is of another form")
    }
    #expect(pairs.count > 500)
    for pair in pairs {
      guard case .array(let texts) = pair, let prompt = texts[0].string, let expected = texts[1].string else {
        preconditionFailure("the fixture is of another form")
      }
      let cleaned = PromptCleaning.wan(prompt)
      // Strings count as equal where they are only canonically equivalent.
      #expect(cleaned.unicodeScalars.elementsEqual(expected.unicodeScalars), "\(prompt.debugDescription)")
    }
  }
}

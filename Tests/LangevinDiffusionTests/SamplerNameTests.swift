import LangevinTensor
import Testing

@testable import LangevinDiffusion

struct SamplerNameTests {
  @Test func noNameMeansTwoSamplers() {
    var owners: [String: SamplerChoice] = [:]
    for sampler in SamplerRegistry.all {
      for name in sampler.foldedNames {
        #expect(owners[name] == nil, "\(name): \(sampler.name) and \(owners[name]?.name ?? "")")
        owners[name] = sampler
      }
    }
    // With a spacing's name behind, too.
    for (name, sampler) in owners {
      for spacing in NoiseSchedule.SigmaSpacing.allCases {
        guard let found = SamplerRegistry.named(name + spacing.rawValue) else { continue }
        #expect(found == (sampler, spacing) || found == (.dpmpp2MKarras, nil) && sampler == .dpmpp2M)
      }
    }
  }

  @Test func aTakenNameIsRefused() {
    struct Impostor: Sampler {
      static let description = SamplerDescription("impostor", aliases: ["Euler_A"], purpose: "a test")
      mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor { x }
    }
    #expect(throws: DiffusionError.samplerNameTaken(name: "eulera", by: "euler-a")) {
      try SamplerRegistry.register(SamplerChoice(Impostor()))
    }
    #expect(SamplerRegistry.named("impostor") == nil)
  }

  @Test func everyNameIsUnderstood() {
    for sampler in SamplerRegistry.all {
      for name in [sampler.name, sampler.title] + sampler.aliases + sampler.schedulerClasses {
        for spelling in [name, name.uppercased(), name.lowercased(), " \(name) "] {
          #expect(SamplerChoice(named: spelling) == sampler, "\(spelling)")
        }
      }
    }
  }

  @Test(arguments: [
    ("euler_a", SamplerChoice.eulerAncestral), ("k_euler_a", .eulerAncestral),
    ("euler_ancestral", .eulerAncestral),
    ("dpm++2m", .dpmpp2M), ("DPM++ 2M", .dpmpp2M), ("dpm++ 2m karras", .dpmpp2MKarras),
    ("DPM++ 2M Karras", .dpmpp2MKarras), ("dpmpp_2m_k", .dpmpp2MKarras), ("dpmpp_2m", .dpmpp2M),
    ("dpmpp_2m_sde", .dpmpp2MSDE), ("DPM++ SDE", .dpmppSDE), ("uni_pc", .uniPC), ("plms", .pndm),
    ("PLMS", .pndm), ("EulerAncestralDiscreteScheduler", .eulerAncestral),
    ("DPMSolverMultistepScheduler", .dpmpp2M), ("FlowMatchEulerDiscreteScheduler", .euler),
  ])
  func namesOfOtherToolsAreUnderstood(name: String, sampler: SamplerChoice) {
    #expect(SamplerRegistry.named(name)?.sampler == sampler)
    #expect(SamplerRegistry.named(name)?.spacing == nil)
  }

  @Test func aSpacingBehindANameIsTheSpacing() {
    #expect(SamplerRegistry.named("Euler Karras") ?? (.ddpm, nil) == (.euler, .karras))
    #expect(SamplerRegistry.named("heun_k") ?? (.ddpm, nil) == (.heun, .karras))
    #expect(SamplerRegistry.named("DPM++ 2M SDE Exponential") ?? (.ddpm, nil) == (.dpmpp2MSDE, .exponential))
  }

  @Test(arguments: [
    "", " ", "k", "karras", "euler b", "ddim karras", "dpm++ 2s a", "DEISMultistepScheduler", "++",
  ])
  func whatIsNoNameIsNil(name: String) { #expect(SamplerRegistry.named(name) == nil) }
}

import Foundation
import Langevin
import LangevinMeasurement
import Testing

/// `langevin doctor` on machines that are broken in one way each, by variables of the environment.
struct DoctorTests {
  let scratch: Scratch
  let vendors: URL

  init() throws {
    scratch = try Scratch()
    vendors = scratch.url("vendors")
    try FileManager.default.createDirectory(at: vendors, withIntermediateDirectories: true)
  }

  private func register(_ library: String, as name: String) throws -> String {
    let file = vendors.appendingPathComponent(name)
    try Data((library + "\n").utf8).write(to: file)
    return file.path
  }

  /// The driver that the tests run on, wherever it is registered.
  private func pocl() throws -> String {
    let drivers = InstalledDriver.registered()
    return try #require(drivers.first { $0.library.contains("pocl") }, "apt install pocl-opencl-icd").library
  }

  private func doctor(_ changes: [String: String] = [:]) throws -> (status: Int32, Diagnosis) {
    let outcome = try Tool.run(
      ["doctor", "--json"], in: scratch.folder,
      environment: ["OCL_ICD_VENDORS": vendors.path].merging(changes) { $1 })
    let diagnosis = try JSONDecoder().decode(Diagnosis.self, from: Data(outcome.output.utf8))
    return (outcome.status, diagnosis)
  }

  private func problem(_ diagnosis: Diagnosis, _ check: String) throws -> Finding {
    let findings = diagnosis.findings
    return try #require(
      findings.first { $0.check.hasPrefix(check) && $0.state == .problem }, "\(findings)")
  }

  @Test func aWorkingDriverIsUsable() throws {
    let file = try register(pocl(), as: "pocl.icd")
    let (status, diagnosis) = try doctor()
    #expect(status == 0)
    #expect(diagnosis.usableDevices == 1)
    for check in ["loader", "driver \(file)", "PoCL's cache", "opencl:0"] {
      let finding = try #require(diagnosis.findings.first { $0.check.hasPrefix(check) })
      #expect(finding.state == .ok, "\(finding)")
      #expect(finding.command == nil)
    }
  }

  @Test func withoutDriversItSaysWhichToInstall() throws {
    let (status, diagnosis) = try doctor()
    #expect(status == 1)
    #expect(diagnosis.usableDevices == 0)
    let finding = try problem(diagnosis, "drivers")
    #expect(finding.message.contains(vendors.path))
    #expect(finding.command == "unset OCL_ICD_VENDORS")
    _ = try problem(diagnosis, "devices")
  }

  @Test func aDriverThatIsMissingIsNamedAndTheOthersGoOn() throws {
    let file = try register("libnosuchdriver.so.7", as: "broken.icd")
    _ = try register(pocl(), as: "pocl.icd")
    let (status, diagnosis) = try doctor()
    #expect(status == 0)
    #expect(diagnosis.usableDevices == 1)
    let finding = try problem(diagnosis, "driver \(file)")
    #expect(finding.message.contains("libnosuchdriver.so.7: cannot open shared object file"))
    #expect(finding.command == "rm \(file)")
  }

  @Test func aKnownDriverThatIsMissingIsInstalled() throws {
    _ = try register("libigdrcl.so", as: "intel.icd")
    let (status, diagnosis) = try doctor()
    #expect(status == 1)
    let command = try #require(try problem(diagnosis, "driver").command)
    #expect(command.hasSuffix("apt install --reinstall intel-opencl-icd"))
  }

  @Test func aFileThatNamesNothingIsSaid() throws {
    let file = try register("", as: "empty.icd")
    let (status, diagnosis) = try doctor()
    #expect(status == 1)
    #expect(diagnosis.usableDevices == 0)
    #expect(try problem(diagnosis, "driver \(file)").message == "the file names no library")
  }

  /// A file in the place of the folder: unlike a mode, it stops root too.
  @Test func aPoclCacheThatCannotBeReadIsRemoved() throws {
    _ = try register(pocl(), as: "pocl.icd")
    let cache = scratch.url("cache")
    try Data().write(to: cache)
    let (status, diagnosis) = try doctor(["POCL_CACHE_DIR": cache.path])
    #expect(status == 1)
    let finding = try problem(diagnosis, "PoCL's cache")
    #expect(finding.message == "\(cache.path) is a file, not a folder")
    #expect(finding.command == "rm \(cache.path)")
    // The device's own line finds the same by trying another cache.
    let device = try problem(diagnosis, "opencl:0")
    #expect(!device.message.contains("\n"))
    #expect(device.command == "rm -r \(cache.path)")
  }

  @Test func aFileSystemThatNobodyWritesToIsNoCache() throws {
    _ = try register(pocl(), as: "pocl.icd")
    let (_, diagnosis) = try doctor(["POCL_CACHE_DIR": "/proc/nowhere"])
    let finding = try problem(diagnosis, "PoCL's cache")
    #expect(finding.message.hasPrefix("/proc cannot be"))
    #expect(try #require(finding.command).hasPrefix("export POCL_CACHE_DIR=/"))
  }

  @Test(.enabled(if: geteuid() != 0, "root reads everything"))
  func aPoclCacheWithoutPermissionsGetsThem() throws {
    _ = try register(pocl(), as: "pocl.icd")
    let cache = scratch.url("cache")
    try FileManager.default.createDirectory(
      at: cache, withIntermediateDirectories: true, attributes: [.posixPermissions: 0])
    let (_, diagnosis) = try doctor(["POCL_CACHE_DIR": cache.path])
    #expect(try problem(diagnosis, "PoCL's cache").command == "chmod -R u+rwX \(cache.path)")
  }

  @Test func aProgramCacheThatCannotBeWrittenIsAWarning() throws {
    _ = try register(pocl(), as: "pocl.icd")
    let cache = scratch.url("cache")
    try FileManager.default.createDirectory(at: cache, withIntermediateDirectories: true)
    try Data().write(to: cache.appendingPathComponent("langevin"))
    let (status, diagnosis) = try doctor(["XDG_CACHE_HOME": cache.path])
    #expect(status == 0)
    let finding = try #require(diagnosis.findings.first { $0.check == "program cache" })
    #expect(finding.state == .warning)
    #expect(finding.command == "rm \(cache.path)/langevin")
  }

  /// A driver that ends the process that loads it, as PoCL does where it finds no /sys.
  @Test func aDriverThatCrashesIsAFinding() throws {
    let source = scratch.url("crash.c")
    try Data("#include <stdlib.h>\n__attribute__((constructor)) static void crash(void) { abort(); }\n".utf8)
      .write(to: source)
    let library = scratch.url("libcrash.so")
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    compiler.arguments = ["clang", "-shared", "-fPIC", source.path, "-o", library.path]
    try compiler.run()
    compiler.waitUntilExit()
    try #require(compiler.terminationStatus == 0)
    let file = try register(library.path, as: "crash.icd")
    let (status, diagnosis) = try doctor()
    #expect(status == 1)
    let finding = try problem(diagnosis, "driver \(file)")
    #expect(finding.message.contains("crashed with signal 6"))
    #expect(finding.command == "mv \(file) \(file).off")
  }

  private static var hasAVX2: Bool {
    (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.contains(" avx2 ") == true
  }

  @Test(.enabled(if: hasAVX2, "the old kernels are this processor's own"))
  func oldKernelsOfOpenBLASAreNamed() throws {
    let (_, diagnosis) = try doctor(["OPENBLAS_CORETYPE": "Prescott"])
    let finding = try problem(diagnosis, "OpenBLAS")
    #expect(finding.message.contains("Prescott"))
    #expect(finding.command == "unset OPENBLAS_CORETYPE")
  }

  @Test func onePlainLineForEachCheck() throws {
    _ = try register("libnosuchdriver.so.7", as: "broken.icd")
    let outcome = try Tool.run(
      ["doctor"], in: scratch.folder, environment: ["OCL_ICD_VENDORS": vendors.path])
    #expect(outcome.status == 1)
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.count > 4)
    for line in lines { #expect(line.wholeMatch(of: /(ok|warning|problem): .+: .+/) != nil, "\(line)") }
    #expect(outcome.output.contains("; run: rm "))
    #expect(outcome.errors.isEmpty)
  }

  @Test func devicesListsPlatformsAndWhatIsWrongWithDrivers() throws {
    let file = try register("libnosuchdriver.so.7", as: "broken.icd")
    let broken = try Tool.run(
      ["devices"], in: scratch.folder, environment: ["OCL_ICD_VENDORS": vendors.path])
    #expect(broken.status == 0)
    #expect(broken.output.contains("\(file): cannot be used: libnosuchdriver.so.7"))
    #expect(broken.output.contains("`langevin doctor`"))
    _ = try register(pocl(), as: "pocl.icd")
    // PoCL has no devices where it is told of none that it knows.
    let empty = try Tool.run(
      ["devices"], in: scratch.folder,
      environment: ["OCL_ICD_VENDORS": vendors.path, "POCL_DEVICES": "nosuch"])
    #expect(empty.status == 0)
    #expect(empty.output.contains("platform Portable Computing Language"))
    #expect(empty.output.contains("it has no device"))
  }
}

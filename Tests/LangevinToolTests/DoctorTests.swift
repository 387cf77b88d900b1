import Foundation
import Langevin
import LangevinDoctor
import LangevinOpenCL
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

  private func compile(_ source: String, as name: String) throws -> URL {
    let file = scratch.url("driver.c")
    try Data(source.utf8).write(to: file)
    let library = scratch.url(name)
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    compiler.arguments = ["clang", "-shared", "-fPIC", "-w", file.path, "-o", library.path]
    try compiler.run()
    compiler.waitUntilExit()
    try #require(compiler.terminationStatus == 0)
    return library
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

  /// Where Mesa's is installed, as on the machines of our checks; elsewhere the driver itself is what is missing.
  private static let rusticl = ["/etc/OpenCL/vendors/rusticl.icd", "/usr/share/OpenCL/vendors/rusticl.icd"]
    .first { FileManager.default.fileExists(atPath: $0) }

  @Test(.enabled(if: rusticl != nil, "apt install mesa-opencl-icd"))
  func rusticlIsToldWhichDriversToOffer() throws {
    _ = try register("libRusticlOpenCL.so.1", as: "rusticl.icd")
    for (value, words) in [
      ("", "RUSTICL_ENABLE names, and it is not set"), ("nosuch", "RUSTICL_ENABLE=nosuch"),
    ] {
      let (status, diagnosis) = try doctor(["RUSTICL_ENABLE": value])
      #expect(status == 1)
      let finding = try #require(diagnosis.findings.first { $0.check == "platform rusticl" })
      #expect(finding.state == .warning && finding.message.contains(words), "\(finding)")
      #expect(finding.command?.hasPrefix("export RUSTICL_ENABLE=") == true)
    }
    let (status, diagnosis) = try doctor(["RUSTICL_ENABLE": "llvmpipe"])
    #expect(status == 0 && diagnosis.usableDevices == 1, "\(diagnosis.findings)")
    #expect(!diagnosis.findings.contains { $0.check == "platform rusticl" })
  }

  /// A driver that says what Mesa's says without libclc, and has no device.
  @Test func rusticlWithoutLibclcIsToldToInstallIt() throws {
    let source = """
      #include <stdio.h>
      #include <string.h>
      typedef int (*Any)(void);
      static int none(void) { return -32; }
      static int devices(void) { return -1; }
      static int info(void *platform, unsigned parameter, unsigned long size, char *value, unsigned long *needed) {
        const char *text = parameter == 0x902 ? "rusticl" : parameter == 0x920 ? "MESA" :
          parameter == 0x904 ? "cl_khr_icd" : parameter == 0x901 ? "OpenCL 3.0 " : "FULL_PROFILE";
        if (needed) *needed = strlen(text) + 1;
        if (value && size > strlen(text)) strcpy(value, text);
        return 0;
      }
      static Any table[200];
      static struct { Any *calls; } platform = { table };
      int clIcdGetPlatformIDsKHR(unsigned entries, void **platforms, unsigned *found) {
        for (int i = 0; i < 200; i++) table[i] = none;
        table[1] = (Any)info;
        table[2] = devices;
        if (platforms && entries) platforms[0] = &platform;
        if (found) *found = 1;
        fprintf(stderr, "Libclc failed to load. Please make sure it is installed\\n");
        return 0;
      }
      void *clGetExtensionFunctionAddress(const char *name) {
        return strcmp(name, "clIcdGetPlatformIDsKHR") == 0 ? (void *)clIcdGetPlatformIDsKHR
          : strcmp(name, "clGetPlatformInfo") == 0 ? (void *)info : 0;
      }
      """
    let library = try compile(source, as: "libRusticlOpenCL.so.1")
    _ = try register(library.path, as: "rusticl.icd")
    let (status, diagnosis) = try doctor()
    #expect(status == 1)
    let finding = try #require(
      diagnosis.findings.first { $0.check == "platform rusticl" }, "\(diagnosis.findings)")
    #expect(finding.message.contains("Libclc failed to load"))
    #expect(finding.command?.contains("apt install --reinstall libclc-") == true, "\(finding)")
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
    let library = try compile(
      "#include <stdlib.h>\n__attribute__((constructor)) static void crash(void) { abort(); }\n",
      as: "libcrash.so")
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

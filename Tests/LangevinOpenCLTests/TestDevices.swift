import LangevinTestSupport

typealias TestDevice = LangevinTestSupport.TestDevice
typealias TemporaryFolder = LangevinTestSupport.TemporaryFolder

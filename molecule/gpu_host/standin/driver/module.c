/* Stand-in for nvidia.ko: a module file whose version modinfo tells; it is never loaded. */
#define INFO(name, text) static const char name[] __attribute__((section(".modinfo"), used, aligned(1))) = text
INFO(version, "version=" DRIVER);
INFO(license, "license=Dual MIT/GPL");
INFO(name_of, "name=nvidia");
